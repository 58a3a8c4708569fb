"""Exchanges: every request has one outcome, when its response has ended."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.streams import ByteStream

from ..service import Service

router = APIRouter()


@router.get("/bytes", response_class=ByteStream)
async def send() -> ByteStream:
    async def source() -> AsyncGenerator[bytes]:
        yield b"x" * 1000
        yield b"y" * 500

    return ByteStream(source())


@router.post("/bytes")
async def count(request: Request) -> int:
    return len(await RequestBody(request, limit=1 << 20).read())


async def test_bytes_are_counted_in_both_directions(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        await client.get("/bytes")
        assert (await client.post("/bytes", content=b"z" * 70_000)).json() == 70_000

    sent, received = await service.ended("GET /bytes"), await service.ended("POST /bytes")
    assert (sent.bytes_in, sent.bytes_out, sent.status) == (0, 1500, 200)
    assert (received.bytes_in, received.bytes_out) == (70_000, 5)
    assert sent.started_at <= sent.first_byte_at <= sent.ended_at


async def test_openapi_tells_the_media_types_of_streams(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()

    content = document["paths"]["/bytes"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["application/octet-stream"]


@pytest.mark.slow
async def test_what_came_while_the_loop_was_busy_is_not_late(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(
            b"POST /bytes HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert b" 100 " in await peer.read_head()  # It waits for the body, for 0.4 s.
        async with busy_loop(service):
            await peer.send(b"12345")

        assert b" 200 " in await peer.read_head()


@pytest.mark.slow
async def test_what_was_taken_while_the_loop_was_busy_is_not_late(serve: Any) -> None:
    size, chunk = 64 << 20, 256 << 10
    taken = 0
    endless = APIRouter()

    @endless.get("/large", response_class=ByteStream)
    async def send() -> ByteStream:
        async def source() -> AsyncGenerator[bytes]:
            nonlocal taken
            for taken in range(0, size, chunk):  # noqa: B007
                yield bytes(chunk)

        return ByteStream(source(), headers={"Content-Length": str(size)})

    service: Service = await serve(endless)
    async with service.raw_connection() as peer:
        await peer.get("/large", "Connection: close")
        await peer.read_head()
        before = -1
        while before != await service.call(lambda: taken):  # An iteration without progress.
            before = taken
        assert taken < size - chunk
        async with busy_loop(service):
            received = len(await peer.read(before - chunk))

        assert received + len(await peer.read_to_end()) == size


@asynccontextmanager
async def busy_loop(service: Service) -> AsyncGenerator[None]:
    """Run the block while the server's event loop is blocked for longer than any limit."""
    has_begun = threading.Event()

    def stop() -> None:
        has_begun.set()
        time.sleep(1)

    stopped = asyncio.create_task(service.call(stop))
    await anyio.to_thread.run_sync(has_begun.wait)
    yield
    await stopped


@pytest.mark.trap("D11")
async def test_nothing_in_between_makes_a_failure_a_whole_response(serve: Any) -> None:
    broken = APIRouter()

    @broken.get("/timed", response_class=ByteStream)
    async def fail() -> ByteStream:
        async def source() -> AsyncGenerator[bytes]:
            yield b"first"
            raise ValueError

        return ByteStream(source())

    service: Service = await serve(broken)
    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/timed")
