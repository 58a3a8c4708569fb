"""Transforms: a body is received and another one sent at the same time, in little memory."""

import asyncio
import hashlib
import random
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.download import TransformRouter

from ..peer import PATIENCE
from ..service import SOAK, Service, ServiceProcess


def head(name: str, length: int | None = None) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /transform/{name} HTTP/1.1\r\nHost: x\r\n{size}\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_chunk(peer: Any) -> bytes:
    """Return the next chunk of a chunked response; empty for the last one."""
    size = int(await peer.read_until(b"\r\n"), 16)
    data = b""
    while len(data) < size + 2:
        data += await peer.read_until(b"\r\n")
    return data[:size]


async def read_chunks(peer: Any) -> AsyncIterator[bytes]:
    while data := await read_chunk(peer):
        yield data


class Holding:
    """A transform that records how it ended, and reads its body as a test asks."""

    def __init__(self, fails: bool = False) -> None:
        self.router = TransformRouter(prefix="/transform")
        self.closed = asyncio.Event()

        @self.router.transform("/test", takes="text/plain", gives="text/plain")
        async def same(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
            """Return the received bytes."""
            try:
                async for data in body:
                    yield data
                    if fails:
                        raise ValueError
            finally:
                await asyncio.sleep(0)
                self.closed.set()


@pytest.mark.trap("D17")
async def test_what_is_written_is_answered_before_the_next_is(service: Service) -> None:
    decode = zlib.decompressobj(wbits=31).decompress
    async with service.raw_connection() as peer:
        await peer.send(head("gzip"))
        for number in range(20):
            data = b"%d " % number + random.randbytes(number * 1000)
            await peer.send(chunk(data))
            if not number:
                await peer.read_head()
            received = b""
            while len(received) < len(data):
                received += decode(await read_chunk(peer))
            assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        await peer.send(chunk(b""))
        assert decode(await read_chunk(peer)) == b""
        assert await read_chunk(peer) == b""

    assert await service.outcome_of("POST /transform/gzip") == "complete"


@pytest.mark.trap("D17")
async def test_every_chunk_of_a_large_body_is_delivered(service: Service) -> None:
    block = random.randbytes(100_000)
    blocks = 100 * SOAK
    digest, sent = hashlib.sha256(), hashlib.sha256()
    decoder = zlib.decompressobj(wbits=31)
    async with service.raw_connection() as peer:

        async def write() -> None:
            await peer.send(head("gzip", blocks * len(block)))
            for _ in range(blocks):
                sent.update(block)
                await peer.send(block)

        writer = asyncio.create_task(write())
        await peer.read_head()
        async for data in read_chunks(peer):
            digest.update(decoder.decompress(data))
        await writer

    assert decoder.eof
    assert digest.digest() == sent.digest()


async def test_characters_may_be_cut_anywhere_and_other_bytes_pass(service: Service) -> None:
    body = "straße ǆ 🎉 ".encode() + b"\xff\xe2\x82 \xed\xa0\x80 \x80a" + "é".encode()
    expected = "STRASSE Ǆ 🎉 ".encode() + b"\xff\xe2\x82 \xed\xa0\x80 \x80A" + "É".encode()
    async with service.raw_connection() as peer:
        await peer.send(head("upper"))
        for position in range(len(body)):
            await peer.send(chunk(body[position : position + 1]))
        await peer.send(chunk(b"\xc3") + chunk(b""))
        assert b"content-type: text/plain; charset=utf-8" in await peer.read_head()
        received = b"".join([data async for data in read_chunks(peer)])

    assert received == expected + b"\xc3"


async def test_an_empty_body_becomes_what_the_transform_makes_of_nothing(service: Service) -> None:
    async with service.client() as client:
        upper = await client.post("/transform/upper")
        packed = await client.post("/transform/gzip")

    assert (upper.status_code, upper.content) == (200, b"")
    assert packed.headers["content-type"] == "application/gzip"
    assert zlib.decompress(packed.content, wbits=31) == b""


@pytest.mark.bound("H19")
async def test_a_body_that_is_too_large_is_refused_or_cut_off(serve: Any) -> None:
    service: Service = await serve(download={"max_transform": 1000})
    async with service.raw_connection() as peer:
        await peer.send(head("upper", 1001))
        assert b" 413 " in await peer.read_head()
    async with service.raw_connection() as peer:
        await peer.send(head("upper") + chunk(b"a" * 1000))
        assert b" 200 " in await peer.read_head()
        assert await read_chunk(peer) == b"A" * 1000
        await peer.send(chunk(b"a"))
        assert await peer.read_to_end() == b""  # There is no last chunk.

    outcomes = [await service.outcome_of("POST /transform/upper") for _ in range(2)]
    assert outcomes == ["rejected", "rejected"]


@pytest.mark.parametrize("name", ["upper", "gzip"])
@pytest.mark.parametrize(
    ("codings", "status"),
    [
        (["gzip"], 415),
        pytest.param(["identity", "gzip"], 415, marks=pytest.mark.fault("F7")),
        (["identity"], 200),
    ],
)
async def test_a_body_with_a_content_coding_is_refused(
    service: Service, name: str, codings: list[str], status: int
) -> None:
    async with service.client() as client:
        fields = [("Content-Encoding", coding) for coding in codings]
        response = await client.post(f"/transform/{name}", content=b"x", headers=fields)

    assert response.status_code == status


@pytest.mark.parametrize(
    ("name", "content_type", "status"),
    [
        pytest.param("upper", "text/plain; charset=utf-16", 415, marks=pytest.mark.fault("F7")),
        ("upper", "text/html; charset=utf-8", 200),
        ("upper", "application/x-www-form-urlencoded", 200),
        ("gzip", "text/plain; charset=utf-16", 200),
    ],
)
async def test_text_in_another_charset_is_refused_where_it_is_read_as_text(
    service: Service, name: str, content_type: str, status: int
) -> None:
    async with service.client() as client:
        fields = {"Content-Type": content_type}
        response = await client.post(f"/transform/{name}", content=b"x\0", headers=fields)

    assert response.status_code == status


async def test_a_body_that_stalls_before_its_first_byte_is_408(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(head("upper", 10))
        assert b" 408 " in await peer.read_head()


@pytest.mark.trap("D13")
async def test_a_transform_that_fails_half_way_aborts_the_connection(serve: Any) -> None:
    holding = Holding(fails=True)
    service: Service = await serve(holding.router)
    async with service.raw_connection() as peer:
        await peer.send(head("test", 10) + b"abc")
        await peer.read_head()
        assert await peer.read_to_end() == chunk(b"abc")

    assert await service.outcome_of("POST /transform/test") == "server_error"
    assert holding.closed.is_set()


@pytest.mark.usefixtures("no_collector")
async def test_a_client_that_leaves_half_way_is_seen_at_once(serve: Any) -> None:
    holding = Holding()
    service: Service = await serve(holding.router, streaming={"idle_timeout": PATIENCE})
    async with service.raw_connection() as peer:
        await peer.send(head("test", 10) + b"abc")
        await peer.read_until(b"abc")
        peer.reset()

        assert await service.outcome_of("POST /transform/test") == "client_abort"
    assert holding.closed.is_set()


@pytest.mark.trap("D9")
async def test_a_client_that_writes_without_reading_is_held_up_and_cut_off(serve: Any) -> None:
    holding = Holding()
    service: Service = await serve(holding.router)
    size = 1 << 30
    async with service.raw_connection(receive_buffer=4096) as peer:
        with pytest.raises(ConnectionError):
            await peer.send(head("test", size))
            while True:
                await peer.send(b"x" * (1 << 20))

    exchange = await service.ended("POST /transform/test")
    assert exchange.outcome == "slow_client"
    assert exchange.bytes_in < 64 << 20
    assert holding.closed.is_set()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", ["upper", "gzip"])
@pytest.mark.slow
async def test_the_memory_is_flat_whatever_the_size(tmp_path: Path, name: str) -> None:
    block = b"line of text\n" * 10_000

    async def send(peer: Any, blocks: int) -> None:
        async def write() -> None:
            await peer.send(head(name, blocks * len(block)))
            for _ in range(blocks):
                await peer.send(block)

        writer = asyncio.create_task(write())
        await peer.read_head()
        async for _ in read_chunks(peer):
            pass
        await writer

    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        await send(peer, 50)
        idle = process.peak_memory()
        await send(peer, 250 * SOAK)
        assert process.peak_memory() - idle < 4 << 20


async def test_the_documentation_has_both_media_types(serve: Any) -> None:
    service: Service = await serve(Holding().router)
    async with service.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]

    operation = paths["/transform/gzip"]["post"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    assert operation["requestBody"] == {"content": {"application/octet-stream": binary}}
    assert operation["responses"]["200"]["content"] == {"application/gzip": binary}
    assert paths["/transform/test"]["post"]["description"] == "Return the received bytes."
