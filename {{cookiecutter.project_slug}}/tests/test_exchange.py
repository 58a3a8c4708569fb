"""Exchanges: every request has one outcome, which is known when it has really ended."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.streaming import ByteStream, RequestBody

from .service import Service

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
