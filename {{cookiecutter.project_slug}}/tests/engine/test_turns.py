"""The bytes of one client take a limited part of each iteration of the event loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.server import http_connection
from {{cookiecutter.package_name}}.engine.server.http_connection import HTTPConnection

from .peer import PATIENCE, Peer
from .service import Service

GET = b"GET /length HTTP/1.1\r\nHost: test\r\n"
CHUNKED = b"POST /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = 20_000
#: The bytes of one read, and the parser's callback that counts their elements.
FLOODS = {
    "chunks": (CHUNKED + b"1\r\nx\r\n" * CHUNKS, "on_body"),
    "header lines": (GET + b"X:\r\n" * 15_000, "on_header"),
    "requests": ((GET + b"\r\n") * 1200, "on_headers_complete"),
}


def routes() -> APIRouter:
    router = APIRouter()

    @router.api_route("/length", methods=["GET", "POST"])
    async def length(request: Request) -> int:
        return len(await RequestBody(request, limit=1 << 20).read())

    return router


async def longest_run(work: Callable[[], object], count: Callable[[], int]) -> int:
    """Run work in the server's loop; return the largest count of one of the next iterations."""
    work()
    runs, seen = [count()], count()
    for _ in range(50):
        await asyncio.sleep(0)
        runs.append(count() - seen)
        seen += runs[-1]
    return max(runs)


@pytest.mark.bound("3.1")
@pytest.mark.parametrize("name", FLOODS)
async def test_one_read_is_worked_on_in_several_turns(
    serve: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service: Service = await serve(routes())
    data, callback = FLOODS[name]
    found: list[None] = []
    original = getattr(HTTPConnection, callback)

    def counted(*arguments: Any) -> None:
        found.append(None)
        original(*arguments)

    monkeypatch.setattr(HTTPConnection, callback, counted)
    async with service.raw_connection() as peer:
        await peer.send(b"\r\n")
        connection = await connection_of(service, peer)
        found.clear()
        longest = await service.in_server(
            longest_run(lambda: connection.data_received(data), lambda: len(found))
        )
    whole = data.count(b"\r\n") // {"chunks": 2, "header lines": 1, "requests": 3}[name]
    assert 0 < longest < whole // 3


async def connection_of(service: Service, peer: Peer) -> Any:
    """Return the server's end of a connection that it has accepted."""
    connections: set[Any] = service._server.server_state.connections
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await service.call(
                lambda: [each for each in connections if each.client == peer.address()]
            )
            if found:
                return found[0]


async def test_a_body_in_many_chunks_arrives_whole(serve: Any) -> None:
    service: Service = await serve(routes())
    async with service.raw_connection() as peer:
        await peer.send(CHUNKED + b"1\r\nx\r\n" * CHUNKS + b"0\r\nX: trailer\r\n\r\n")
        await peer.send(CHUNKED + b"a\r\n\r\n0\r\n\r\n0\r\n\r\n" + b"05\r\n\r\n0\r\n\r\n0\r\n\r\n")
        await peer.send(GET + b"Connection: close\r\n\r\n")
        answered = (await peer.read_to_end()).split(b"\r\n\r\n")
    assert [each.split(b"HTTP/")[0] for each in answered[1:]] == [b"%d" % CHUNKS, b"15", b"0"]


@pytest.mark.parametrize("size", [b"1;a=b", b"002", b"3", b"1F"])
async def test_a_body_in_chunks_is_the_same_wherever_its_reads_end(serve: Any, size: bytes) -> None:
    service: Service = await serve(routes())
    count = int(size.partition(b";")[0], 16)
    chunk = size + b"\r\n" + b"0" * count + b"\r\n"
    data = CHUNKED + chunk * 3 + b"a\r\n\r\n0\r\n\r\n0\r\n\r\n" + b"0\r\n\r\n"
    async with service.raw_connection() as peer:
        await peer.send(b"\r\n")
        connection = await connection_of(service, peer)
        for cut in range(len(CHUNKED), len(data)):

            def receive(cut: int = cut) -> None:
                connection.data_received(data[:cut])
                connection.data_received(data[cut:])

            await service.call(receive)
            await peer.read_until(b"\r\n\r\n%d" % (3 * count + 10))


@pytest.mark.skipif(http_connection.chunk_sizes is None, reason="it comes with streams")
async def test_a_read_of_large_chunks_is_parsed_at_once(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await serve(routes())
    parsed: list[int] = []
    original = HTTPConnection.parse

    def counted(self: Any, data: bytes) -> None:
        parsed.append(len(data))
        original(self, data)

    monkeypatch.setattr(HTTPConnection, "parse", counted)
    async with service.raw_connection() as peer:
        await peer.send(CHUNKED)
        connection = await connection_of(service, peer)
        chunk = b"10000\r\n" + b"\r\n0\r\n\r\n0" * (1 << 13) + b"\r\n"
        await service.call(lambda: connection.data_received(chunk * 3 + chunk[:99]))
        assert parsed[-1] == 3 * len(chunk) + 99


async def test_many_header_lines_are_431(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(GET + b"X:\r\n" * 300 + b"\r\n")
        assert (await peer.read_to_end()).startswith(b"HTTP/1.1 431 ")
