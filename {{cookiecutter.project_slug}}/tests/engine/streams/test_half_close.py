"""Half-closed connections: whole requests get their response, others are ignored.

FIN is also how a subscriber leaves, so it ends a GET, and a response that has begun.
Source: RFC 9112, sections 8 and 9.6.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.streams import ByteStream

from ..peer import PATIENCE, Peer
from ..service import Service

BODIES = {
    "length": b"Content-Length: 4\r\n\r\nbody",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
}


class Slow:
    """Routes that wait for the test: before the response, or within it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.end = asyncio.Event()
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.router = APIRouter()

        @self.router.api_route("/echo", methods=["GET", "POST"])
        async def echo(request: Request) -> str:
            body = await RequestBody(request, limit=100).read()
            self.begun.set()
            await self.go_on.wait()
            return body.decode()

        @self.router.api_route("/stream", methods=["GET", "POST"], response_class=ByteStream)
        async def stream(request: Request) -> ByteStream:
            await RequestBody(request, limit=100).read()
            return ByteStream(self._chunks())

        @self.router.post("/late", response_class=ByteStream)
        async def late(request: Request) -> ByteStream:
            await echo(request)
            return ByteStream(self._chunks())

        @self.router.post("/silent", response_class=ByteStream)
        async def silent(request: Request) -> ByteStream:
            await echo(request)
            return ByteStream(self._chunks(b""))

        @self.router.post("/large", response_class=ByteStream)
        async def large(request: Request) -> ByteStream:
            await RequestBody(request, limit=100).read()
            return ByteStream(bytes(1 << 20) for _ in range(64))

    async def _chunks(self, first: bytes = b"first") -> AsyncGenerator[bytes]:
        try:
            yield first
            await self.end.wait()
            yield b"last"
        finally:
            self.closed.set()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture(params=["asyncio", "uvloop"])
async def service(
    slow: Slow, serve: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Service:
    loop = pytest.importorskip(request.param, reason="it is not there")
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", loop.new_event_loop)
        started: Service = await serve(slow.router)
    return started


def post(path: bytes, body: bytes = BODIES["length"]) -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nHost: test\r\n" + body


async def end(service: Service, peer: Peer) -> None:
    """Send FIN, and return when the server has received it."""
    peer.end()
    for _ in range(10):
        await service.call(lambda: None)


async def go_on(service: Service, slow: Slow) -> None:
    await service.call(slow.go_on.set)


@pytest.mark.fault("F10")
@pytest.mark.parametrize("body", BODIES)
async def test_a_whole_request_is_answered_and_then_the_connection_closed(
    service: Service, slow: Slow, body: str
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/echo", BODIES[body]))
        await service.in_server(slow.begun.wait())
        await end(service, peer)
        await go_on(service, slow)
        answer = await peer.read_to_end()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b'"body"')
    assert await service.outcome_of("POST /echo") == "complete"


@pytest.mark.fault("F10")
async def test_a_stream_that_begins_behind_it_is_sent_to_its_end(
    service: Service, slow: Slow
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/late"))
        await service.in_server(slow.begun.wait())
        await end(service, peer)
        await go_on(service, slow)
        await peer.read_until(b"first")
        await service.call(slow.end.set)
        assert (await peer.read_to_end()).endswith(b"last\r\n0\r\n\r\n")


@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    "half",
    [b"POST /echo HTTP/1.1\r\nHo", post(b"/echo")[:-1], post(b"/echo", BODIES["chunks"])[:-2]],
    ids=["head", "length", "chunks"],
)
async def test_of_two_requests_the_one_that_is_whole_is_answered(
    service: Service, slow: Slow, half: bytes
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/echo") + half)
        await service.in_server(slow.begun.wait())
        await end(service, peer)
        await go_on(service, slow)
        assert (await peer.read_to_end()).count(b"HTTP/1.1 ") == 1


@pytest.mark.fault("F10")
async def test_all_whole_requests_are_answered(service: Service, slow: Slow) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/echo") * 3 + b"GET /echo HTTP/1.1\r\nHost: test\r\n\r\n")
        await service.in_server(slow.begun.wait())
        await end(service, peer)
        await go_on(service, slow)
        assert (await peer.read_to_end()).count(b"HTTP/1.1 200 ") == 4


async def test_half_a_request_is_not_answered(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/echo")[:-1])
        await end(service, peer)
        assert await peer.read_to_end() == b""
    assert await service.outcome_of("POST /echo") == "client_abort"


async def test_a_get_is_given_up(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/stream")
        peer.end()
        await peer.read_to_end()
    assert await service.outcome_of("GET /stream") == "client_abort"


async def test_a_response_that_has_begun_is_given_up(service: Service, slow: Slow) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/stream"))
        await peer.read_until(b"first")
        peer.end()
        await peer.read_to_end()
        await service.in_server(asyncio.wait_for(slow.closed.wait(), PATIENCE))
    assert await service.outcome_of("POST /stream") == "client_abort"


async def test_a_client_that_does_not_take_the_answer_is_cut_off(service: Service) -> None:
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.send(post(b"/large"))
        peer.end()
        assert await service.outcome_of("POST /large") == "slow_client"
        with pytest.raises(ConnectionResetError):
            await peer.read_to_end()


@pytest.mark.slow
async def test_a_client_that_is_gone_altogether_is_seen_while_nothing_is_sent(
    service: Service, slow: Slow
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(post(b"/silent"))
        await service.in_server(slow.begun.wait())
        peer.close()
        await go_on(service, slow)
        await service.in_server(asyncio.wait_for(slow.closed.wait(), PATIENCE))
    assert await service.outcome_of("POST /silent") == "client_abort"


@pytest.mark.slow
async def test_no_connection_is_left(service: Service, slow: Slow) -> None:
    for _ in range(5):
        async with service.raw_connection() as peer:
            await peer.send(post(b"/echo"))
            await end(service, peer)
            await go_on(service, slow)
            await peer.read_to_end()
    gc.collect()
    assert await service.call(lambda: len(service._server.server_state.connections)) == 0
