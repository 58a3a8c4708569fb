"""Failures and departures that libraries, threads and generators could hide from the guard."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException, Request
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel
from starlette.routing import Route

from ..peer import PATIENCE, Peer
from ..service import Service
from ..test_handlers import Stamp


class Item(BaseModel):
    number: int


async def rest_of(peer: Peer) -> bytes:
    try:
        return await peer.read_to_end()
    except ConnectionResetError:
        return b""


def invalid_router(valid: int) -> APIRouter:
    router = APIRouter()

    async def items() -> AsyncGenerator[Any]:
        for number in range(valid):
            yield {"number": number}
        yield {"number": "none"}

    @router.get("/sse", response_class=EventSourceResponse)
    async def sse() -> AsyncIterable[Item]:
        async for item in items():
            yield item

    @router.get("/lines")
    async def lines() -> AsyncIterable[Item]:
        async for item in items():
            yield item

    return router


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("path", ["/sse", "/lines"])
async def test_an_invalid_item(sections: Any, path: str, layer: bool) -> None:
    service = Service(invalid_router(2), **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service, service.raw_connection() as peer:
        await peer.get(path, "Connection: close")
        received = await rest_of(peer)
        assert await service.outcome_of(f"GET {path}") == "server_error"
    assert not received.endswith(b"0\r\n\r\n"), received
    assert b"rror" in received


@pytest.mark.usefixtures("first_item")
@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("path", ["/sse", "/lines"])
async def test_an_invalid_first_item(sections: Any, path: str, layer: bool) -> None:
    service = Service(invalid_router(0), **sections)
    calls = []

    @service.app.exception_handler(ResponseValidationError)
    async def handle(request: Request, error: Exception) -> JSONResponse:
        calls.append(error)
        return JSONResponse({"detail": "mine"}, 502)

    if layer:
        service.app.add_middleware(Stamp)
    async with service, service.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 502
    assert len(calls) == 1


async def cancelled_task(before: int) -> AsyncGenerator[str]:
    for _ in range(before):
        yield "item"
        await asyncio.sleep(0.01)
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task
    yield "never"


def cancelled_router(before: int) -> APIRouter:
    router = APIRouter()

    @router.get("/sse", response_class=EventSourceResponse)
    async def sse() -> AsyncIterable[str]:
        async for item in cancelled_task(before):
            yield item

    @router.get("/streaming")
    async def streaming() -> StreamingResponse:
        return StreamingResponse(cancelled_task(before))

    return router


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("path", ["/sse", "/streaming"])
async def test_a_cancelled_task_is_a_failure(sections: Any, path: str, layer: bool) -> None:
    for before in (0, 2):
        service = Service(cancelled_router(before), **sections)
        if layer:
            service.app.add_middleware(Stamp)
        async with service, service.raw_connection() as peer:
            await peer.get(path, "Connection: close")
            received = await rest_of(peer)
            outcome = await service.outcome_of(f"GET {path}")
        assert outcome == "server_error", (before, received)
        if before:
            assert not received.endswith(b"0\r\n\r\n"), received
        else:
            assert received.startswith(b"HTTP/1.1 500 "), received


#: Seconds in which the middleware below wants a response.
LIMIT = 0.05


class Within:
    """A middleware with a time limit; it responds with 504 by itself or raises."""

    def __init__(self, app: Any, responds: bool) -> None:
        self.app = app
        self.responds = responds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(LIMIT):
                await self.app(scope, receive, send)
        except TimeoutError:
            if not self.responds:
                raise
            await JSONResponse({"detail": "mine"}, 504)(scope, receive, send)


@pytest.mark.usefixtures("first_item")
@pytest.mark.parametrize("responds", [False, True])
@pytest.mark.parametrize("path", ["/sse", "/streaming"])
async def test_a_middleware_with_a_timeout(sections: Any, path: str, responds: bool) -> None:
    router = APIRouter()

    async def items() -> AsyncGenerator[str]:
        await asyncio.sleep(60)
        yield "item"

    @router.get("/sse", response_class=EventSourceResponse)
    async def sse() -> AsyncIterable[str]:
        async for item in items():
            yield item

    @router.get("/streaming")
    async def streaming() -> StreamingResponse:
        return StreamingResponse(items())

    service = Service(router, **sections)
    service.app.add_middleware(Within, responds=responds)

    @service.app.exception_handler(TimeoutError)
    async def handle(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "mine"}, 504)

    async with service, service.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 504


async def bad() -> AsyncGenerator[str]:
    try:
        while True:
            yield "item"
            await asyncio.sleep(0)
    finally:
        raise ValueError("in finally")


def bad_sync() -> Generator[str]:
    try:
        while True:
            yield "item"
    finally:
        raise ValueError("in finally")


@pytest.mark.parametrize("layer", [False, True])
async def test_a_source_that_fails_to_close(sections: Any, layer: bool) -> None:
    router = APIRouter()

    @router.get("/bad")
    async def stream() -> StreamingResponse:
        return StreamingResponse(bad())

    @router.get("/bad-sse", response_class=EventSourceResponse)
    async def events() -> AsyncIterable[str]:
        async for item in bad():
            yield item

    @router.get("/bad-sync")
    def sync() -> StreamingResponse:
        return StreamingResponse(bad_sync())

    service = Service(router, **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service:
        for path in ("/bad", "/bad-sse", "/bad-sync"):
            async with service.raw_connection() as peer:
                await peer.get(path)
                await peer.read_head()
                peer.reset()
            assert await service.outcome_of(f"GET {path}") == "client_abort", path
        assert not await service.call(lambda: set(service.app.state.kernel.channels))


@asynccontextmanager
async def resource(steps: list[str]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        steps.append("begins")
        await asyncio.sleep(0.02)
        steps.append("ends")


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("path", ["/slow-sse", "/slow-lines", "/slow-raw"])
async def test_cleanup_that_awaits(sections: Any, path: str, layer: bool) -> None:
    router = APIRouter()
    steps: list[str] = []

    async def dependency() -> AsyncIterator[None]:
        async with resource(steps):
            yield

    async def items() -> AsyncGenerator[str]:
        async with resource(steps):
            yield "item"
            await asyncio.sleep(60)

    @router.get("/slow-sse", response_class=EventSourceResponse, dependencies=[Depends(dependency)])
    async def sse() -> AsyncIterable[str]:
        async with resource(steps):
            yield "item"
            await asyncio.sleep(60)

    @router.get("/slow-lines", dependencies=[Depends(dependency)])
    async def lines() -> AsyncIterable[str]:
        async with resource(steps):
            yield "item"
            await asyncio.sleep(60)

    @router.get("/slow-raw", dependencies=[Depends(dependency)])
    async def raw() -> StreamingResponse:
        return StreamingResponse(items())

    service = Service(router, **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service:
        async with service.raw_connection() as peer:
            await peer.get(path)
            await peer.read_until(b"item")
            peer.reset()
        assert await service.outcome_of(f"GET {path}") == "client_abort"
    assert steps == ["begins", "ends"] * 2


async def test_a_client_that_leaves_after_its_body_was_read_by_the_source(serve: Any) -> None:
    router = APIRouter()
    closed = asyncio.Event()

    @router.post("/echo")
    async def echo(request: Request) -> StreamingResponse:
        async def items() -> AsyncGenerator[bytes]:
            try:
                async for chunk in request.stream():
                    yield chunk
                await asyncio.sleep(60)
            finally:
                closed.set()

        return StreamingResponse(items())

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab")
        await peer.read_until(b"ab")
        await peer.send(b"cd")
        await peer.read_until(b"cd")
        peer.reset()
    await service.in_server(asyncio.wait_for(closed.wait(), PATIENCE))
    assert await service.outcome_of("POST /echo") == "client_abort"


async def test_a_client_that_leaves_before_the_first_item(serve: Any) -> None:
    router = APIRouter()
    began, closed = asyncio.Event(), asyncio.Event()

    @router.get("/declared")
    async def declared() -> StreamingResponse:
        async def items() -> AsyncGenerator[bytes]:
            try:
                began.set()
                await asyncio.sleep(60)
                yield b"x"
            finally:
                closed.set()

        return StreamingResponse(items(), headers={"Content-Length": "1"})

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/declared")
        await service.in_server(asyncio.wait_for(began.wait(), PATIENCE))
        peer.reset()
    await service.in_server(asyncio.wait_for(closed.wait(), PATIENCE))
    assert await service.outcome_of("GET /declared") == "client_abort"


class Callables:
    async def __call__(self) -> StreamingResponse:
        async def items() -> AsyncGenerator[str]:
            yield "item"
            raise HTTPException(409)

        return StreamingResponse(items())


class GeneratorCallable:
    async def __call__(self) -> AsyncIterable[str]:
        yield "item"
        await asyncio.sleep(0.05)
        raise HTTPException(409)


async def test_callable_objects_are_watched(serve: Any) -> None:
    router = APIRouter()
    router.add_api_route("/object", Callables(), response_model=None)
    router.add_api_route("/generator", GeneratorCallable(), response_class=EventSourceResponse)
    service: Service = await serve(router)
    for path in ("/object", "/generator"):
        async with service.raw_connection() as peer:
            await peer.get(path, "Connection: close")
            received = await rest_of(peer)
        assert not received.endswith(b"0\r\n\r\n"), path


@pytest.mark.usefixtures("first_item")
async def test_a_starlette_route_refuses_before_the_first_item(serve: Any) -> None:
    service: Service = await serve()

    async def plain(request: Request) -> StreamingResponse:
        async def items() -> AsyncGenerator[str]:
            raise HTTPException(409, "No.")
            yield

        return StreamingResponse(items())

    service.app.router.routes.append(Route("/plain", plain))
    async with service.client() as client:
        answer = await client.get("/plain")
    assert answer.status_code == 409


async def test_a_failed_background_task_leaves_the_connection(serve: Any) -> None:
    router = APIRouter()

    async def fail() -> None:
        await asyncio.sleep(0.1)
        raise ValueError

    @router.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        return "done"

    @router.get("/next")
    async def next_() -> str:
        await asyncio.sleep(0.3)
        return "next"

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/background")
        await peer.read_until(b'"done"')
        await peer.get("/next")
        assert await peer.read_until(b'"next"')


async def test_a_never_waiting_stream_with_cleanup_that_awaits(serve: Any) -> None:
    router = APIRouter()
    steps = []

    @router.get("/events")
    async def events() -> StreamingResponse:
        async def items() -> AsyncGenerator[str]:
            try:
                while True:
                    yield "data: item\n\n"
            finally:
                await asyncio.sleep(0.01)
                steps.append("ends")

        return StreamingResponse(items(), media_type="text/event-stream")

    service: Service = await serve(router)
    async with service.client() as client, client.stream("GET", "/events") as answer:
        await service.call(service.app.state.kernel.drain.begin)
        text = "".join([text async for text in answer.aiter_text()])
    assert "retry: " in text
    assert await service.outcome_of("GET /events") == "drained"
    assert steps == ["ends"]


async def test_empty_chunks_do_not_starve_the_loop(serve: Any) -> None:
    router = APIRouter()

    @router.get("/empty")
    async def empty() -> StreamingResponse:
        async def items() -> AsyncGenerator[bytes]:
            for _ in range(300_000_000):
                yield b""

        return StreamingResponse(items())

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/empty")
        async with service.client() as client:
            client.timeout = httpx.Timeout(3)
            assert (await client.get("/health/live")).status_code == 200
        peer.reset()
    assert await service.outcome_of("GET /empty") == "client_abort"


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("path", ["/swallowing", "/swallowing-lines"])
async def test_a_source_that_swallows_its_cancellation(
    sections: Any, path: str, layer: bool
) -> None:
    router = APIRouter()

    async def items() -> AsyncGenerator[str]:
        yield "item"
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    @router.get("/swallowing")
    async def streaming() -> StreamingResponse:
        return StreamingResponse(items())

    @router.get("/swallowing-lines")
    async def lines() -> AsyncIterable[str]:
        async for item in items():
            yield item

    service = Service(router, server={"drain_timeout": 0.1}, **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service, service.raw_connection() as peer:
        await peer.get(path)
        await peer.read_until(b"item")
        await service.call(service.app.state.kernel.drain.begin)
        assert not (await rest_of(peer)).endswith(b"0\r\n\r\n")
        assert await service.outcome_of(f"GET {path}") == "drained"
