"""Parts of a response that are written past the layers keep their order and their limits."""

import asyncio
import zlib
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.datastructures import MutableHeaders
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from {{cookiecutter.package_name}}.engine.kernel.exchange import Exchange, Outcome
from {{cookiecutter.package_name}}.engine.streams.push import (
    SHARE,
    Channel,
    PushResponse,
)

from ..service import Service

BIG = 32 << 20  # More than the buffers of a connection.


class Parts(Channel):
    """A response with the parts of a test; it fails at `!`."""

    __slots__ = ("waiting",)

    heartbeat = b"."

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange, inf)
        self.waiting: list[bytes] = []

    def put(self, *parts: bytes) -> None:
        for part in parts:
            self.waiting.append(part)
            self.wake()

    def take(self) -> bytes:
        part = self.waiting.pop(0) if self.waiting else b""
        if part == b"!":
            raise ValueError
        return part

    def close(self) -> None:
        self.waiting.clear()

    def farewell(self, retry_after: float) -> bytes:
        return b"bye"

    def failure(self, document: dict[str, Any]) -> bytes:
        return b"failed"


class PartsResponse(PushResponse):
    media_type = "application/jsonl"

    async def open(self, exchange: Exchange) -> Channel:
        return Parts(exchange)


class Deflating:
    """A middleware that compresses the body, and sends the headers at once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deflate = zlib.compressobj()

        async def send_deflated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Encoding"] = "deflate"
            elif message["type"] == "http.response.body":
                message["body"] = deflate.compress(message["body"])
                if not message.get("more_body"):
                    message["body"] += deflate.flush()
            await send(message)

        await self.app(scope, receive, send_deflated if scope.get("path") == "/parts" else send)


class Keeping:
    """A middleware that holds parts of the body back until the test releases them."""

    def __init__(self, app: ASGIApp, released: asyncio.Event) -> None:
        self.app = app
        self.released = released

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept: asyncio.Queue[Message] = asyncio.Queue()

        async def pass_on() -> None:
            await self.released.wait()
            while True:
                await send(await kept.get())

        async def keep(message: Message) -> None:
            if scope.get("path") == "/parts" and message["type"] == "http.response.body":
                kept.put_nowait(message)
            else:
                await send(message)

        passing = asyncio.create_task(pass_on())
        try:
            await self.app(scope, receive, keep)
        finally:
            passing.cancel()


class Hiding:
    """A middleware that removes the extensions of the server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {}
        await self.app(scope, receive, send)


class Rebuilding(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Callable[..., Any]) -> Any:
        return await call_next(request)


@pytest.fixture
def parts() -> APIRouter:
    router = APIRouter()

    @router.get("/parts")
    async def open_parts() -> PartsResponse:
        return PartsResponse()

    return router


@pytest.fixture
async def service(serve: Any, parts: APIRouter) -> Service:
    """The service, with a long send timeout."""
    started: Service = await serve(parts, streaming={"send_timeout": 10})
    return started


async def channel_of(service: Service) -> Any:
    """Return the channel of the only client, when it is open."""

    async def wait() -> Any:
        channels = service.app.state.kernel.channels
        while not channels:
            await asyncio.sleep(0)
        return next(iter(channels))

    return await service.in_server(wait())


@pytest.mark.parametrize("middleware", [None, GZipMiddleware, Deflating, Hiding, Rebuilding])
async def test_a_body_is_whole_behind_any_middleware(
    sections: Any, parts: APIRouter, middleware: Any
) -> None:
    service = Service(parts, **sections)
    if middleware is not None:
        service.app.add_middleware(middleware)
    async with service, service.client() as client:
        request = asyncio.create_task(client.get("/parts"))
        channel = await channel_of(service)
        await service.call(lambda: channel.put(*[b"%d\n" % number for number in range(100)]))
        await service.call(lambda: channel.finish(b"end\n", Outcome.COMPLETE))

        assert (await request).text.split() == [*map(str, range(100)), "end"]


@pytest.mark.slow
async def test_parts_keep_their_order_when_a_middleware_keeps_them(
    sections: Any, parts: APIRouter
) -> None:
    released = asyncio.Event()
    service = Service(parts, **{**sections, "streaming": {"send_timeout": 10}})
    service.app.add_middleware(Keeping, released=released)
    async with service, service.raw_connection() as peer:
        await peer.get("/parts", "Connection: close")
        await peer.read_head()
        channel = await channel_of(service)

        def put_one_and_release_all() -> None:
            channel.put(b"3")
            channel.finish(b"", Outcome.COMPLETE)
            released.set()

        await service.call(lambda: channel.put(b"x" * BIG, b"2"))
        reading = asyncio.create_task(peer.read_to_end())
        await service.call(put_one_and_release_all)
        body = await reading

    assert body[-19:] == b"\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n"


async def test_nothing_follows_a_failure_but_the_word_of_it(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/parts")
        await peer.read_head()
        channel = await channel_of(service)
        await service.call(lambda: channel.put(b"1", b"!", b"3"))

        assert await peer.read_to_end() == b"1\r\n1\r\n6\r\nfailed\r\n"
    assert await service.outcome_of("GET /parts") == "server_error"


async def test_last_words_have_as_long_as_any_others(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/parts", "Connection: close")
        await peer.read_head()
        channel = await channel_of(service)

        async def end_after_a_silence() -> None:
            now = asyncio.get_running_loop().time()
            channel.wrote_at = now - 1000
            channel.finish(b"x" * BIG, Outcome.COMPLETE)
            await asyncio.sleep(0)
            channel.sweep(now)

        await service.in_server(end_after_a_silence())
        assert len(await peer.read_to_end()) > BIG
    assert await service.outcome_of("GET /parts") == "complete"


@pytest.mark.slow
async def test_a_client_that_does_not_take_the_last_words_has_not_had_all(
    serve: Any, parts: APIRouter
) -> None:
    service: Service = await serve(parts, streaming={"send_timeout": 0.1})
    async with service.raw_connection() as peer:
        await peer.get("/parts")
        await peer.read_head()
        channel = await channel_of(service)
        await service.call(lambda: channel.finish(b"x" * BIG, Outcome.DRAINED))

        assert await service.outcome_of("GET /parts") == "slow_client"


async def test_others_have_their_turn_while_a_client_catches_up(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/parts")
        await peer.read_head()
        channel = await channel_of(service)

        def taken_at_once() -> int:
            channel.waiting = [b"x" * SHARE] * 10
            channel.wake()
            return 10 - len(channel.waiting)

        assert await service.call(taken_at_once) <= 2


async def test_http_1_0_gets_parts_without_frames(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/parts", version="1.0")
        await peer.read_head()
        channel = await channel_of(service)
        await service.call(lambda: channel.put(b"1", b"2"))
        await service.call(lambda: channel.finish(b"3", Outcome.COMPLETE))

        assert await peer.read_to_end() == b"123"
