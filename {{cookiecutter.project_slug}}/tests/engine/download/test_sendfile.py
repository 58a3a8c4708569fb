"""Files are sent without a copy where that is possible, without a visible difference."""

import hashlib
import os
import random
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse

from {{cookiecutter.package_name}}.engine.server import sendfile
from {{cookiecutter.package_name}}.engine.streams import ByteStream
from {{cookiecutter.package_name}}.engine.streams.file_parts import FilePart

from ..service import Service

if sys.platform != "linux":
    pytest.skip("it is done on Linux only", allow_module_level=True)

DATA = random.randbytes(3 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that `os.sendfile` has sent, by call."""
    counts: list[int] = []
    original = os.sendfile

    def counting(out: int, source: int, offset: int, count: int) -> int:
        counts.append(original(out, source, offset, count))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", counting)
    return counts


class Source:
    """A route that sends a file in parts, with bytes before and after it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1
        self.router = APIRouter()
        self.router.get("/file", response_class=ByteStream)(self.send)

    async def send(self) -> ByteStream:
        size = str(self.path.stat().st_size + len(b"<>"))
        return ByteStream(self.chunks(), headers={"Content-Length": size})

    async def chunks(self) -> AsyncGenerator[bytes | FilePart]:
        with self.path.open("rb") as file:
            self.descriptor = file.fileno()
            yield b"<"
            for part in FilePart(self.descriptor, 0, self.path.stat().st_size).turns():
                yield part
            yield b">"


def of_the_framework(path: Path) -> APIRouter:
    router = APIRouter()

    async def answer() -> FileResponse:
        return FileResponse(path)

    router.get("/file", response_class=FileResponse)(answer)
    return router


def same(content: bytes, expected: bytes) -> bool:
    return hashlib.sha256(content).digest() == hashlib.sha256(expected).digest()


async def test_a_file_goes_from_the_page_cache_to_the_socket(
    serve: Any, path: Path, sent: list[int]
) -> None:
    service: Service = await serve(Source(path).router)
    async with service.client() as client:
        for _ in range(2):  # The connection can be used again.
            response = await client.get("/file")
            assert same(response.content, b"<" + DATA + b">")

    assert sum(sent) == 2 * len(DATA)
    assert (await service.ended("GET /file")).bytes_out == len(DATA) + 2


async def test_pipelined_requests_are_answered_in_order(serve: Any, path: Path) -> None:
    path.write_bytes(DATA[:300_000])
    service: Service = await serve(Source(path).router)
    async with service.raw_connection() as peer:
        await peer.send(b"GET /file HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
        await peer.send(b"GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        answers = await peer.read_to_end()

    body = b"\r\n\r\n<" + DATA[:300_000] + b">HTTP/1.1 200 OK\r\n"
    assert answers.count(body) == 2
    assert b"connection: close" in answers.rpartition(body)[2]


async def test_a_response_of_the_framework_is_sent_so_too(
    serve: Any, path: Path, sent: list[int]
) -> None:
    service: Service = await serve(of_the_framework(path))
    async with service.client() as client:
        assert same((await client.get("/file")).content, DATA)

    assert sum(sent) == len(DATA)
    ended = await service.ended("GET /file")
    assert (ended.bytes_out, ended.outcome) == (len(DATA), "complete")


async def test_a_client_that_leaves_a_response_of_the_framework_is_noticed(
    serve: Any, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(path, 1 << 30)
    service: Service = await serve(of_the_framework(path))
    async with service.raw_connection() as peer:
        await peer.get("/file")
        await peer.read_head()
        peer.reset()

    ended = await service.ended("GET /file")
    assert ended.outcome == "client_abort"
    assert ended.bytes_out < 1 << 30
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_middleware_that_encodes_the_body_gets_all_of_it(
    path: Path, sent: list[int], sections: dict[str, dict[str, Any]]
) -> None:
    service = Service(Source(path).router, **sections)
    service.app.add_middleware(GZipMiddleware)
    async with service, service.client() as client:
        response = await client.get("/file", headers={"Accept-Encoding": "gzip"})

    assert response.headers["content-encoding"] == "gzip"
    assert same(response.content, b"<" + DATA + b">")
    assert sent == []


@pytest.mark.trap("D6", "D8")
async def test_a_client_that_leaves_ends_it_and_the_file_is_closed(serve: Any, path: Path) -> None:
    source = Source(path)
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    service: Service = await serve(source.router)
    async with service.raw_connection() as peer:
        await peer.get("/file")
        await peer.read_until(b"<")
        peer.reset()

    ended = await service.ended("GET /file")
    assert ended.outcome == "client_abort"
    assert ended.bytes_out < 1 << 30
    with pytest.raises(OSError, match="Bad file descriptor"):
        await service.call(lambda: os.fstat(source.descriptor))


@pytest.mark.trap("D9")
async def test_a_client_that_does_not_read_is_cut_off(serve: Any, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    service: Service = await serve(Source(path).router)
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get("/file")
        assert await service.outcome_of("GET /file") == "slow_client"


@pytest.mark.trap("D13")
async def test_a_file_that_becomes_shorter_aborts_the_connection(
    serve: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FilePart.fetch

    async def truncate_first(part: FilePart, executor: Any) -> None:
        os.truncate(path, 1 << 20)
        await original(part, executor)

    monkeypatch.setattr(FilePart, "fetch", truncate_first)
    service: Service = await serve(Source(path).router)
    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/file")
    assert await service.outcome_of("GET /file") == "server_error"


async def test_what_is_not_in_the_page_cache_is_read_in_a_thread(
    serve: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []

    def count(descriptor: int, size: int, start: int) -> bytes:
        fetched.append(size)
        return b""

    monkeypatch.setattr(FilePart, "in_page_cache", lambda part: False)
    monkeypatch.setattr(os, "pread", count)
    service: Service = await serve(Source(path).router)
    async with service.client() as client:
        assert same((await client.get("/file")).content, b"<" + DATA + b">")
    assert sum(fetched) == len(DATA)


def test_tls_and_other_platforms_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sendfile.extensions("https") == {}
    monkeypatch.setattr(sendfile, "ZERO_COPY", False)
    assert sendfile.extensions("http") == {}
