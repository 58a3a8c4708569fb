"""Sources of plain responses: their threads, their clean-up, and the request bodies they read."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import EventSourceResponse

from {{cookiecutter.package_name}}.engine.kernel.body import RequestBody

from ..peer import PATIENCE
from ..service import Service
from ..test_handlers import Stamp

POST = b"POST /stream HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"


class Waiting:
    """A source that waits after its first item, and whose clean-up waits as well."""

    def __init__(self, router: APIRouter, method: str = "GET") -> None:
        self.closed = threading.Event()

        async def stream() -> StreamingResponse:
            return StreamingResponse(self.items())

        async def events() -> AsyncIterable[str]:
            async for item in self.items():
                yield item

        router.add_api_route("/stream", stream, methods=[method])
        router.get("/lines")(events)
        router.get("/raw", response_class=StreamingResponse)(events)
        router.get("/sse", response_class=EventSourceResponse)(events)

    async def items(self) -> AsyncGenerator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.closed.set()


@pytest.mark.parametrize("path", ["/stream", "/lines", "/raw", "/sse"])
@pytest.mark.plain("R7")
async def test_the_clean_up_of_a_source_is_not_cut_off(serve: Any, path: str) -> None:
    router = APIRouter()
    source = Waiting(router)
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get(path)
        await peer.read_until(b"first")
        peer.reset()

    assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE)
    assert await service.outcome_of(f"GET {path}") == "client_abort"


async def test_a_client_that_leaves_is_noticed_behind_a_body_that_nobody_reads(serve: Any) -> None:
    router = APIRouter()
    source = Waiting(router, "POST")
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(POST % 2 + b"{}")
        await peer.read_until(b"first")
        peer.reset()

    assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE)


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.plain("D17")
async def test_a_response_may_read_the_request_while_it_is_sent(serve: Any, begins: bool) -> None:
    router = APIRouter()

    @router.post("/stream")
    async def echo(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncGenerator[bytes]:
            if begins:
                yield b"begin"
                await asyncio.sleep(0.05)
            async for chunk in request.stream():
                yield chunk

        return StreamingResponse(chunks())

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(POST % 700)
        for number in range(100):
            part = b"part%03d" % number
            await peer.send(part)
            await peer.read_until(part)
    assert await service.outcome_of("POST /stream") == "complete"


async def test_a_body_that_arrives_before_its_reader_is_not_lost(serve: Any) -> None:
    router = APIRouter()

    @router.post("/stream")
    async def echo(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncGenerator[bytes]:
            yield b"begin"
            while not request.scope["exchange"].body_complete:
                await asyncio.sleep(0)
            async for chunk in RequestBody(request, 100):
                yield chunk

        return StreamingResponse(chunks())

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(POST % 4)
        await peer.read_until(b"begin")
        await peer.send(b"late")
        assert (await peer.read_until(b"\r\n0\r\n\r\n")).count(b"late") == 1
    assert await service.outcome_of("POST /stream") == "complete"


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.plain("D16")
async def test_a_background_task_runs_once_after_every_outcome(
    serve: Any, fails: bool, own: bool
) -> None:
    router, ran = APIRouter(), threading.Event()
    count = 0

    def work() -> None:
        nonlocal count
        count += 1
        ran.set()

    @router.get("/stream")
    async def stream(tasks: BackgroundTasks) -> StreamingResponse:
        async def items() -> AsyncGenerator[bytes]:
            yield b"first"
            if fails:
                raise ZeroDivisionError

        tasks.add_task(work)
        return StreamingResponse(items(), background=tasks if own else None)

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/stream", "Connection: close")
        await peer.read_to_end()
    assert await anyio.to_thread.run_sync(ran.wait, PATIENCE)
    assert await service.outcome_of("GET /stream") == ("server_error" if fails else "complete")
    assert count == 1


async def test_an_error_of_a_file_is_not_that_of_a_client(serve: Any) -> None:
    """The response of an exception handler has a source that is not wrapped."""
    router = APIRouter()

    async def items() -> AsyncGenerator[bytes]:
        yield b"first"
        raise FileNotFoundError

    @router.get("/stream")
    async def stream() -> None:
        raise LookupError

    async def handle(request: Request, error: Exception) -> StreamingResponse:
        return StreamingResponse(items())

    service: Service = await serve(router)
    service.app.exception_handler(LookupError)(handle)
    async with service.raw_connection() as peer:
        await peer.get("/stream", "Connection: close")
        await peer.read_until(b"first")
        assert await service.outcome_of("GET /stream") == "server_error"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/stream", "/lines"])
@pytest.mark.plain("D15")
async def test_synchronous_sources_leave_the_threads_of_path_operations(
    serve: Any, path: str
) -> None:
    router, release, started = APIRouter(), threading.Event(), threading.Event()

    def slow() -> Generator[str]:
        yield "first"
        started.set()
        while not release.is_set():
            time.sleep(0.01)

    @router.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(slow())

    @router.get("/lines")
    def lines() -> Generator[str]:
        yield from slow()

    @router.get("/threaded")
    def threaded() -> str:
        return "answered"

    service: Service = await serve(router)
    async with service.client() as client:
        streams = [asyncio.create_task(client.get(path)) for _ in range(60)]
        assert await anyio.to_thread.run_sync(started.wait, PATIENCE)
        try:
            assert (await client.get("/threaded")).json() == "answered"
        finally:
            release.set()
        for response in await asyncio.gather(*streams):
            assert "first" in response.text


async def test_a_client_that_leaves_the_ends_of_responses_unread_is_cut_off(serve: Any) -> None:
    router = APIRouter()
    router.get("/stream")(lambda: StreamingResponse(iter([b"x" * 60_000])))
    service: Service = await serve(router)
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n" * 300)

        # The first responses fit into the socket buffers.
        while (outcome := await service.outcome_of("GET /stream")) == "complete":
            pass
        assert outcome == "slow_client"


@pytest.mark.plain("R10")
async def test_an_event_stream_begins_at_once_and_is_not_buffered(serve: Any) -> None:
    router = APIRouter()

    async def silent() -> AsyncGenerator[str]:
        await asyncio.Event().wait()
        yield ""

    events = "text/event-stream"
    router.get("/stream")(lambda: StreamingResponse(silent(), media_type=events))
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/stream")
        head = (await peer.read_head()).lower()

    assert b"\r\nx-accel-buffering: no\r\n" in head
    assert b"\r\ncache-control: no-cache" in head


@pytest.mark.plain("U17", "D10")
async def test_a_page_that_was_uploaded_cannot_run(serve: Any, tmp_path: Path) -> None:
    router, path = APIRouter(), tmp_path / "page.html"
    path.write_text("<script>alert(1)</script>")
    router.get("/file")(lambda: FileResponse(path))
    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.get("/file")

    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"].startswith("default-src 'none';")


async def cancel_itself() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("failure", [fail, cancel_itself])
@pytest.mark.parametrize("layer", [False, True])
async def test_events_before_a_failure_arrive(sections: Any, layer: bool, failure: Any) -> None:
    """They wait in a queue of FastAPI, as the source itself never waits."""
    service = Service(**sections)
    if layer:
        service.app.add_middleware(Stamp)

    @service.app.get("/events/{count}", response_class=EventSourceResponse)
    async def events(count: int) -> AsyncIterable[str]:
        for _ in range(count):
            yield "item"
        await failure()

    async with service, service.client() as client:
        for count in (1, 2, 3, 50):
            received = ""
            with pytest.raises(httpx.RemoteProtocolError):
                async with client.stream("GET", f"/events/{count}") as answer:
                    async for text in answer.aiter_text():
                        received += text
            assert received.count("item") == count
            assert "event: error" in received
            assert await service.outcome_of("GET /events/{count}") == "server_error"
