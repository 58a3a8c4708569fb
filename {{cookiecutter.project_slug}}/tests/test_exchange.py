"""Exchanges: every request has one outcome, which is known when it has really ended."""

import ast
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request

import {{cookiecutter.package_name}}
from {{cookiecutter.package_name}}.streaming import ByteStream, RequestBody
from {{cookiecutter.package_name}}.streaming.kernel import log_exchange

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


@pytest.mark.trap("E8", "E9")
async def test_the_log_line_tells_how_a_stream_ended_and_no_secret(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken = APIRouter()

    @broken.get("/broken/{secret}", response_class=ByteStream)
    async def fail(secret: str) -> ByteStream:
        async def source() -> AsyncGenerator[bytes]:
            yield secret.encode()
            raise ValueError

        return ByteStream(source())

    service: Service = await serve(broken)
    async with service.raw_connection() as peer:
        await peer.get("/broken/hidden?token=hidden", "Connection: close")
        await peer.read_to_end()
    exchange = await service.ended("GET /broken/{secret}")
    with caplog.at_level(logging.INFO, "{{cookiecutter.package_name}}"):
        caplog.clear()
        log_exchange(exchange)

    [line] = caplog.messages
    assert line.startswith("GET /broken/{secret} 200 server_error in=0 out=6 ")
    assert "hidden" not in line


async def test_openapi_tells_the_media_types_of_streams(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()

    content = document["paths"]["/bytes"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["application/octet-stream"]


@pytest.mark.trap("D11")
def test_no_middleware_hides_an_error_from_the_server() -> None:
    """BaseHTTPMiddleware turns every failure mid-stream into a clean and complete response."""
    source = Path({{cookiecutter.package_name}}.__file__).parent
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert names.isdisjoint({"BaseHTTPMiddleware", "middleware"})
