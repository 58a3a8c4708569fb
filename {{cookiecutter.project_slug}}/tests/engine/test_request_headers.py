"""The headers of a request: limits of their size and time."""

from typing import Any

import pytest
from fastapi import APIRouter, Request

from .peer import Peer
from .service import Service

router = APIRouter()


@router.post("/echo")
async def echo(request: Request) -> int:
    return len(await request.body())


START = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture
def limits(sections: dict[str, dict[str, Any]]) -> None:
    sections["server"] = {"header_timeout": 0.3, "max_header_size": 4096}


MANY = b"X: y\r\n" * 99  # With Host, these are 100.


async def answers(peer: Peer) -> bytes:
    return await peer.read_to_end()


@pytest.mark.trap("E2")
@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("more", [b"X: " + b"y" * 5000 + b"\r\n", b"X: y\r\n" * 700])
async def test_headers_that_are_too_large_are_431(service: Service, more: bytes) -> None:
    async with service.raw_connection() as peer:
        await peer.send(START + more + b"\r\n")
        assert (await answers(peer)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.fault("G42")
@pytest.mark.bound("1.2")
async def test_a_request_may_have_a_hundred_header_fields(service: Service) -> None:
    for more, status in ((b"", b"200"), (b"Y: z\r\n", b"431")):
        async with service.raw_connection() as peer:
            await peer.send(START + MANY + more + b"\r\n")
            assert (await peer.read_head()).startswith(b"HTTP/1.1 " + status)


@pytest.mark.fault("G42")
async def test_so_many_fields_are_refused_before_the_headers_end(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(START + MANY + b"Y: z\r\nZ")
        assert (await answers(peer)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.fault("G42")
async def test_a_body_may_have_a_hundred_trailers(serve: Any) -> None:
    service: Service = await serve(router)
    body = START.replace(b"GET", b"POST").replace(b"/health/live", b"/echo")
    body += b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + MANY + b"X: y\r\n"
    async with service.raw_connection() as peer:
        await peer.send(body + b"\r\n")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
    async with service.raw_connection() as peer:
        await peer.send(body + b"X: y\r\n\r\n")
        assert (await answers(peer)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.trap("E2")
@pytest.mark.usefixtures("limits")
@pytest.mark.bound("H1")
async def test_headers_that_never_end_are_431_before_they_fill_the_memory(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(START + b"X: " + b"y" * 8000)
        assert (await answers(peer)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.usefixtures("limits")
async def test_a_large_body_does_not_count_as_headers(service: Service) -> None:
    body = b"x" * 10_000
    async with service.raw_connection() as peer:
        await peer.send(b"POST /health/live HTTP/1.1\r\nHost: test\r\n")
        await peer.send(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await peer.read_head()).startswith(b"HTTP/1.1 405 ")


@pytest.mark.usefixtures("limits")
@pytest.mark.trap("E3")
@pytest.mark.bound("H2")
async def test_headers_that_do_not_arrive_are_408(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(START)
        assert (await answers(peer)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("limits")
@pytest.mark.trap("E3")
@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_that_says_nothing_is_closed(service: Service, sent: bytes) -> None:
    async with service.raw_connection() as peer:
        await peer.send(sent)
        assert await answers(peer) == b""


@pytest.mark.usefixtures("limits")
async def test_the_second_request_of_a_connection_has_a_deadline_too(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(START + b"\r\n")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
        await peer.send(START)
        assert b"HTTP/1.1 408 " in await answers(peer)


async def test_many_requests_at_once_do_not_count_as_large_headers(service: Service) -> None:
    count = 500
    request = START + b"X: " + b"y" * 250 + b"\r\n\r\n"
    async with service.raw_connection() as peer:
        await peer.send(request * (count - 1))
        await peer.send(request.replace(b"X: ", b"Connection: close\r\nX: "))
        assert (await answers(peer)).count(b"HTTP/1.1 200 ") == count


async def test_a_trailer_is_no_header(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(START.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n")
        await peer.send(b"Connection: close\r\n\r\n1\r\nx\r\n0\r\nX-Request-ID: smuggled\r\n\r\n")
        assert b"smuggled" not in await answers(peer)


@pytest.mark.usefixtures("limits")
async def test_trailers_that_never_end_are_cut_off(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 30})
    async with service.raw_connection() as peer:
        await peer.send(START.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                await peer.send(b"X: " + b"y" * 10_000 + b"\r\n")
