"""Invalid bytes after a whole request: first the response, then the refusal.

A client that counts characters instead of bytes sends more body than its Content-Length.
Source: RFC 9112, sections 2.2 and 9.3.2 (pipelining).
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.streams import ByteStream

from ..peer import PATIENCE
from ..service import Service

GET = b"GET /echo HTTP/1.1\r\nHost: test\r\n\r\n"
TEXT = '{"name": "é"}'
POST = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b"
#: One byte more than the Content-Length.
MISCOUNTED = POST % (len(TEXT), TEXT.encode())
CHUNKED = (
    b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
)
FIRST = {
    "GET": (GET, "200"),
    "a length": (POST % (1, b"x"), "200"),
    "chunks": (CHUNKED, "200"),
    "two": (GET + CHUNKED, "200 200"),
}
SECOND = {
    "junk": (b"junk\r\n\r\n", "400"),
    "a malformed head": (b"GET / HTTP/1.1\r\nX: \0\r\n\r\n", "400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", "400"),
    "a large head": (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"y" * 5000, "431"),
    "another coding": (GET[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "501"),
    "CONNECT": (b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n", "501"),
    "another version": (b"GET / HTTP/3.0\r\nHost: test\r\n\r\n", "400"),
    "an old version": (b"GET / HTTP/0.9\r\nHost: test\r\n\r\n", "505"),
    "malformed chunks": (CHUNKED[: -len(b"0\r\n\r\n")] + b"z\r\n", "400"),
}


class Waiting:
    """A route that waits for the test, and one whose response has no end."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.router = APIRouter()

        @self.router.api_route("/echo", methods=["GET", "POST"])
        async def echo(request: Request) -> str:
            body = await RequestBody(request, limit=100).read()
            self.begun.set()
            await self.go_on.wait()
            return body.decode(errors="replace")

        self.router.get("/endless", response_class=ByteStream)(lambda: ByteStream(self._chunks()))

    async def _chunks(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
async def service(waiting: Waiting, serve: Any) -> Service:
    limits = {"header_timeout": 0.3, "max_header_size": 4096}
    started: Service = await serve(waiting.router, server=limits)
    return started


async def statuses(service: Service, waiting: Waiting, sent: bytes, behind: bytes = b"") -> str:
    """Return the responses to requests, and to bytes after them while the first one runs."""
    async with service.raw_connection() as peer:
        await peer.send(sent)
        await service.in_server(waiting.begun.wait())
        await peer.send(behind)
        for _ in range(10):
            await service.call(lambda: None)
        await service.call(waiting.go_on.set)
        answered = (await peer.read_to_end()).decode("latin-1")
    return " ".join(re.findall(r"HTTP/1\.1 (\d+) ", answered))


@pytest.mark.fault("F11")
async def test_a_request_that_counts_characters_is_answered_and_the_rest_refused(
    service: Service, waiting: Waiting
) -> None:
    assert await statuses(service, waiting, MISCOUNTED) == "200 400"


@pytest.mark.fault("F11")
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", SECOND)
async def test_what_is_refused_behind_a_request_that_runs_comes_behind_its_answer(
    service: Service, waiting: Waiting, first: str, second: str
) -> None:
    sent, answered = FIRST[first]
    behind, status = SECOND[second]
    assert await statuses(service, waiting, sent, behind) == f"{answered} {status}"


@pytest.mark.fault("F11")
@pytest.mark.parametrize("first", FIRST)
async def test_it_may_come_together_with_the_request(
    service: Service, waiting: Waiting, first: str
) -> None:
    sent, answered = FIRST[first]
    assert await statuses(service, waiting, sent + b"junk\r\n\r\n") == f"{answered} 400"


async def test_nothing_behind_a_refusal_is_read_as_a_request(
    service: Service, waiting: Waiting
) -> None:
    assert await statuses(service, waiting, GET + b"junk\r\n\r\n" + GET, GET) == "200 400"


async def test_an_answer_without_end_ends_there(service: Service, waiting: Waiting) -> None:
    async with service.raw_connection() as peer:
        await peer.send(GET.replace(b"/echo", b"/endless") + b"junk\r\n\r\n")
        answered = await peer.read_to_end()
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400" not in answered
    await service.in_server(asyncio.wait_for(waiting.closed.wait(), PATIENCE))
    assert await service.outcome_of("GET /endless") == "client_abort"


async def test_a_client_that_leaves_is_still_seen(service: Service, waiting: Waiting) -> None:
    async with service.raw_connection() as peer:
        await peer.send(GET + b"junk\r\n\r\n")
        await service.in_server(waiting.begun.wait())
    await service.call(waiting.go_on.set)
    assert (await service.ended("GET /echo")).status == 200
    async with asyncio.timeout(PATIENCE):
        while await service.call(lambda: len(service._server.server_state.connections)):
            pass


async def test_a_flood_behind_a_request_is_cut_off(service: Service) -> None:
    with pytest.raises(ConnectionError):
        async with service.raw_connection() as peer, asyncio.timeout(PATIENCE):
            await peer.send(GET)
            while True:
                await peer.send(b"junk" * 100_000)
