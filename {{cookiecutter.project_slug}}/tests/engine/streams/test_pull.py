"""Pull streams: a source is closed when its client leaves, and no failure seems complete."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, HTTPException
from starlette.background import BackgroundTask

from {{cookiecutter.package_name}}.engine.streams import ByteStream
from {{cookiecutter.package_name}}.engine.testing import LiveServer

from ..peer import PATIENCE
from ..service import Service
from ..test_handlers import Stamp, make
from ..test_request_headers import START

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CHUNK = b"z" * 65536
ENDLESS = 100_000


class Source:
    """A source that records its end."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.sent = 0

    async def endless(self) -> AsyncGenerator[bytes]:
        """Yield without ever waiting, far more than any client of a test reads."""
        try:
            while self.sent < ENDLESS:
                self.sent += 1
                yield CHUNK
        finally:
            await asyncio.sleep(0)  # Cleanup that awaits, like closing a connection.
            self.closed.set()


def route(answer: Callable[[], ByteStream]) -> APIRouter:
    router = APIRouter()

    async def stream() -> ByteStream:
        return answer()

    router.get("/stream", response_class=ByteStream)(stream)
    return router


@pytest.mark.usefixtures("no_collector")
@pytest.mark.trap("D6", "D7", "D8", "R7")
async def test_the_source_is_closed_when_the_client_leaves(serve: Any) -> None:
    source = Source()
    service: Service = await serve(route(lambda: ByteStream(source.endless())))

    async with service.raw_connection() as peer:
        await peer.get("/stream")
        await peer.read_until(CHUNK)
        peer.reset()

    async with service.client() as client:
        assert (await client.get("/health/live")).status_code == 200
    await service.in_server(asyncio.wait_for(source.closed.wait(), PATIENCE))
    assert source.sent < ENDLESS
    assert await service.outcome_of("GET /stream") == "client_abort"


@pytest.mark.usefixtures("no_collector")
@pytest.mark.trap("D6", "D8")
async def test_a_synchronous_source_is_closed_when_the_client_leaves(serve: Any) -> None:
    sent = 0
    closed = asyncio.Event()

    def endless() -> Generator[bytes]:
        nonlocal sent
        try:
            while sent < ENDLESS:
                sent += 1
                yield CHUNK
        finally:
            closed.set()

    service: Service = await serve(route(lambda: ByteStream(endless())))
    async with service.raw_connection() as peer:
        await peer.get("/stream")
        await peer.read_until(CHUNK)
        peer.reset()

        assert await service.outcome_of("GET /stream") == "client_abort"
    assert closed.is_set()
    assert sent < ENDLESS


@pytest.mark.trap("D6", "R7")
async def test_a_source_that_waits_is_cancelled_when_the_client_leaves(serve: Any) -> None:
    closed = asyncio.Event()

    async def waiting() -> AsyncGenerator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.set()

    service: Service = await serve(route(lambda: ByteStream(waiting())))
    async with service.raw_connection() as peer:
        await peer.get("/stream")
        await peer.read_until(b"first")
        peer.reset()

    await service.in_server(asyncio.wait_for(closed.wait(), PATIENCE))
    assert await service.outcome_of("GET /stream") == "client_abort"


@pytest.mark.trap("D9")
@pytest.mark.bound("H7")
async def test_a_client_that_stops_reading_is_cut_off(serve: Any) -> None:
    source = Source()
    service: Service = await serve(route(lambda: ByteStream(source.endless())))

    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get("/stream")

        assert await service.outcome_of("GET /stream") == "slow_client"
        with pytest.raises(ConnectionResetError):
            await peer.read_to_end()
    assert source.closed.is_set()


@pytest.mark.trap("D14")
async def test_a_problem_before_the_first_item_is_the_answer(serve: Any) -> None:
    async def missing() -> AsyncGenerator[bytes]:
        raise HTTPException(404, "not here")
        yield b""

    service: Service = await serve(route(lambda: ByteStream(missing())))
    async with service.client() as client:
        response = await client.get("/stream")

    assert response.status_code == 404
    assert response.json()["detail"] == "not here"


async def test_a_failure_half_way_aborts_the_connection(serve: Any) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"first"
        raise ValueError("the database went away")

    service: Service = await serve(route(lambda: ByteStream(broken())))
    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/stream")

    assert await service.outcome_of("GET /stream") == "server_error"


@pytest.mark.trap("D12")
async def test_a_failure_over_http_1_0_resets_the_connection(serve: Any) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"first"
        raise ValueError("the database went away")

    service: Service = await serve(route(lambda: ByteStream(broken())))
    async with service.raw_connection() as peer:
        await peer.get("/stream", version="1.0")
        with pytest.raises(ConnectionResetError):
            await peer.read_to_end()


@pytest.mark.trap("D12")
async def test_http_1_0_gets_no_chunks(serve: Any) -> None:
    service: Service = await serve(route(lambda: ByteStream([b"one ", b"two"])))

    async with service.raw_connection() as peer:
        await peer.get("/stream", version="1.0")
        head = await peer.read_head()

        assert b"transfer-encoding" not in head.lower()
        assert await peer.read_to_end() == b"one two"


@pytest.mark.parametrize("fails", [False, pytest.param(True, marks=pytest.mark.trap("D16"))])
async def test_background_work_runs_whatever_the_outcome(serve: Any, fails: bool) -> None:
    ran = asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        yield b"first"
        if fails:
            raise ValueError

    async def work() -> None:
        ran.set()

    answer = route(lambda: ByteStream(source(), background=BackgroundTask(work)))
    service: Service = await serve(answer)
    async with service.raw_connection() as peer:
        await peer.get("/stream", "Connection: close")
        await peer.read_to_end()

    await service.in_server(asyncio.wait_for(ran.wait(), PATIENCE))


async def test_a_synchronous_source_is_streamed_and_closed(serve: Any) -> None:
    closed = asyncio.Event()

    def lines() -> Generator[bytes]:
        try:
            yield b"one "
            yield b"two"
        finally:
            closed.set()

    service: Service = await serve(route(lambda: ByteStream(lines())))
    async with service.client() as client:
        response = await client.get("/stream")

    assert response.content == b"one two"
    assert closed.is_set()


@pytest.mark.trap("D15")
@pytest.mark.bound("H10")
@pytest.mark.slow
async def test_slow_synchronous_sources_leave_other_endpoints_their_threads(serve: Any) -> None:
    release = asyncio.Event()
    started = asyncio.Event()

    def slow() -> Generator[bytes]:
        yield b"first"
        started.set()
        while not release.is_set():
            time.sleep(0.01)

    router = route(lambda: ByteStream(slow()))

    @router.get("/threaded")
    def threaded() -> str:
        return "answered"

    service: Service = await serve(router)
    async with service.client() as client:
        streams = [asyncio.create_task(client.get("/stream")) for _ in range(60)]
        await service.in_server(asyncio.wait_for(_until(started), PATIENCE))
        try:
            assert (await client.get("/threaded")).json() == "answered"
        finally:
            release.set()
        for response in await asyncio.gather(*streams):
            assert response.content == b"first"


async def _until(event: asyncio.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0)


async def test_a_head_request_gets_no_body(serve: Any) -> None:
    source = Source()
    router = APIRouter()

    async def stream() -> ByteStream:
        return ByteStream(source.endless())

    router.head("/stream")(stream)
    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.head("/stream")

    assert (response.status_code, response.content) == (200, b"")
    assert await service.outcome_of("HEAD /stream") == "complete"
    assert source.closed.is_set()


async def test_a_client_may_leave_with_all_it_was_promised(serve: Any) -> None:
    async def source() -> AsyncGenerator[bytes]:
        yield b"all"
        await asyncio.Event().wait()  # The source does not end.

    answer = route(lambda: ByteStream(source(), headers={"Content-Length": "3"}))
    service: Service = await serve(answer)
    async with service.raw_connection() as peer:
        await peer.get("/stream")
        await peer.read_until(b"all")
        peer.reset()

        assert await service.outcome_of("GET /stream") == "complete"


async def test_a_stream_that_fails_is_cut_whatever_middleware_is_around_it() -> None:
    async def rows() -> AsyncGenerator[bytes]:
        yield b"first\n"
        raise ZeroDivisionError

    app = make()
    app.add_middleware(Stamp)
    app.include_router(route(lambda: ByteStream(rows())))

    async with LiveServer(app) as service, service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/stream")


async def test_an_application_that_is_started_again_has_new_threads() -> None:
    app = make()
    app.include_router(route(lambda: ByteStream(iter([b"in a ", b"thread"]))))

    for _ in range(2):
        async with LiveServer(app) as service, service.client() as client:
            assert (await client.get("/stream")).text == "in a thread"


@pytest.mark.parametrize(
    "second",
    [START + b"X: " + b"y" * 8000, START + b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", UPGRADE],
    ids=["large", "malformed", "upgrade"],
)
async def test_no_refusal_gets_into_an_answer_that_is_under_way(serve: Any, second: bytes) -> None:
    source = Source()
    limits = {"header_timeout": 0.3, "max_header_size": 4096}
    service: Service = await serve(route(lambda: ByteStream(source.endless())), server=limits)
    async with service.raw_connection() as peer:
        await peer.get("/stream")
        await peer.read_head()
        await peer.send(second)
        try:
            answer = await peer.read_to_end()
        except ConnectionResetError:
            answer = peer.unread
    assert b"HTTP/1.1 4" not in answer
    await service.in_server(asyncio.wait_for(source.closed.wait(), PATIENCE))
