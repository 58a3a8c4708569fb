"""Duplex streams: only the source of the response reads the request body."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import APIRouter, Request
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.streams import ByteStream, JsonLines

from ..peer import PATIENCE
from ..service import Service


class Echo:
    """A source that sends the request body back, and then waits if the test requires it."""

    def __init__(self, *, waits: bool) -> None:
        self.router = APIRouter()
        self.closed = asyncio.Event()

        @self.router.post("/echo", response_class=ByteStream)
        async def echo(request: Request) -> ByteStream:
            return ByteStream(self._chunks(RequestBody(request, 1 << 20), waits), duplex=True)

    async def _chunks(self, body: RequestBody, waits: bool) -> AsyncGenerator[bytes]:
        try:
            async for chunk in body:
                yield chunk
            if waits:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.mark.trap("D17")
async def test_a_source_that_reads_the_body_gets_every_chunk(serve: Any) -> None:
    service: Service = await serve(Echo(waits=False).router)
    async with service.raw_connection() as peer:
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 700\r\n\r\n")
        for number in range(100):
            part = b"part%03d" % number
            await peer.send(part)
            await peer.read_until(part)
    assert await service.outcome_of("POST /echo") == "complete"


@pytest.mark.parametrize("length", [4, 5])
async def test_a_client_that_leaves_is_seen_during_the_body_and_behind_it(
    serve: Any, length: int
) -> None:
    echo = Echo(waits=True)
    service: Service = await serve(echo.router, streaming={"idle_timeout": PATIENCE})
    async with service.raw_connection() as peer:
        head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        await peer.send(head.encode() + b"body")
        await peer.read_until(b"body")
        peer.reset()

        assert await service.outcome_of("POST /echo") == "client_abort"
    assert echo.closed.is_set()


async def test_an_empty_body_has_ended_for_a_source_in_a_task_of_its_own(serve: Any) -> None:
    router = APIRouter()

    class Row(BaseModel):
        size: int

    async def rows(body: RequestBody) -> AsyncGenerator[Row]:
        async for chunk in body:
            yield Row(size=len(chunk))

    @router.post("/rows", response_class=JsonLines)
    async def count(request: Request) -> JsonLines:
        return JsonLines(rows(RequestBody(request, 1 << 20)), duplex=True)

    service: Service = await serve(router)
    async with service.client() as client:
        answer = await client.post("/rows")

    assert answer.text == '{"$end":{"count":0}}\n'
