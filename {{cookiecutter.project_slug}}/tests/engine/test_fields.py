"""Header fields: white space around a value is ignored, and several lines are one list.

Sources: RFC 9110, sections 5.3 and 5.5; for `Expect`, section 10.1.1.
"""

import gzip
from typing import Any

import pytest
from fastapi import APIRouter, Request, WebSocket

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.settings import Settings

from .service import Service

F5 = pytest.mark.fault("F5")

router = APIRouter()


@router.post("/fields")
async def fields(request: Request) -> dict[str, str]:
    await RequestBody(request, limit=1000).read()
    return dict(request.headers)


@router.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()


async def answer(service: Service, *lines: str) -> str:
    """Return the response to a request with an empty body and these lines."""
    head = ["POST /fields HTTP/1.1", "Host: test", "Connection: close", *lines, "", ""]
    async with service.raw_connection() as peer:
        await peer.send("\r\n".join(head).encode())
        answered: bytes = await peer.read_to_end()
        return answered.decode()


@F5
@pytest.mark.parametrize("space", [" ", "\t", " \t "])
async def test_white_space_around_a_value_is_none_of_it(serve: Any, space: str) -> None:
    service: Service = await serve(router)
    answered = await answer(service, f"X-Field:{space}a b{space}", f"X-Empty:{space}")
    assert '"x-field":"a b"' in answered
    assert '"x-empty":""' in answered


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["100-continue "], marks=F5),
        pytest.param(["100-Continue\t"], marks=F5),
        pytest.param(["other, 100-continue"], marks=F5),
        ["100-continue", "other"],
    ],
)
async def test_a_client_that_waits_for_our_word_gets_it(serve: Any, values: list[str]) -> None:
    service: Service = await serve(router)
    lines = "".join(f"Expect: {value}\r\n" for value in values)
    async with service.raw_connection() as peer:
        await peer.send(b"POST /fields HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n")
        await peer.send(lines.encode() + b"\r\n")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 100 ")


@F5
@pytest.mark.fault("G42")
async def test_a_client_of_http_1_0_waits_for_nothing(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(b"POST /fields HTTP/1.0\r\nContent-Length: 4\r\n")
        await peer.send(b"Expect: 100-continue\r\n\r\nbody")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")


@F5
@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Content-Disposition",
        "Content-Range",
        "Content-Type",
        "Idempotency-Key",
        "Last-Event-ID",
        "X-HTTP-Method-Override",
    ],
)
async def test_two_lines_of_a_field_with_one_value_are_refused(serve: Any, name: str) -> None:
    service: Service = await serve(router)
    answered = await answer(service, f"{name}: text/plain", f"{name}: text/html")
    assert answered.startswith("HTTP/1.1 400 ")
    assert name.lower() in answered


async def test_the_same_line_twice_says_the_same(serve: Any) -> None:
    service: Service = await serve(router)
    answered = await answer(service, *["Content-Type: text/plain"] * 2)
    assert answered.startswith("HTTP/1.1 200 ")


@F5
@pytest.mark.skipif("upload" not in Settings.model_fields, reason="there are no uploads")
async def test_compressed_bytes_are_not_stored_as_the_file(service: Service) -> None:
    body = gzip.compress(b"text")
    async with service.raw_connection() as peer:
        await peer.send(b"POST /files HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n" % len(body))
        await peer.send(b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n\r\n" + body)
        assert (await peer.read_head()).startswith(b"HTTP/1.1 415 ")


@F5
@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket \r\n",
    ],
)
async def test_a_websocket_begins_however_the_lines_say_it(serve: Any, lines: bytes) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(
            b"GET /socket HTTP/1.1\r\nHost: test\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + lines + b"\r\n"
        )
        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
