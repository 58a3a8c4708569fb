"""Offers of other protocols, and truncated bodies: no success without the whole request.

Java's HttpClient offers HTTP/2 with every request, curl does with `--http2`.
Sources: RFC 9110, section 7.8 (Upgrade); RFC 9112, section 8 (incomplete messages).
"""

import asyncio
import json
from typing import Any

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from {{cookiecutter.package_name}}.engine.kernel import RequestBody, exchange
from {{cookiecutter.package_name}}.engine.streams import ByteStream
from {{cookiecutter.package_name}}.settings import Settings

from ..peer import Peer
from ..service import Service

BODY = b"0123456789"
#: The request of Java 17, without the framing of the body.
JAVA = (
    b"POST /echo HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: localhost:8000\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/17.0.15\r\nContent-Type: text/plain\r\n"
)
FRAMINGS = {
    "length": (b"Content-Length: 10\r\n\r\n", BODY),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"),
}
UNREAD = [
    ("GET", "/unread"),
    ("POST", "/unread"),
    ("DELETE", "/unread"),
    ("GET", "/unread/stream"),
    ("POST", "/unread/stream"),
]
NEXT = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nnext"

router = APIRouter()


@router.api_route("/echo", methods=["GET", "POST"])
async def echo(request: Request) -> str:
    return (await RequestBody(request, limit=1 << 20).read()).decode()


@router.api_route("/unread", methods=["GET", "POST", "DELETE"])
async def unread() -> str:
    return "done"


@router.api_route("/unread/stream", methods=["GET", "POST"], response_class=ByteStream)
async def stream() -> ByteStream:
    return ByteStream([b"done"])


@router.post("/duplex", response_class=ByteStream)
async def duplex() -> ByteStream:
    return ByteStream([b"done"], duplex=True)


@router.post("/plain")
async def plain() -> StreamingResponse:
    return StreamingResponse([b"done"])


async def answer(peer: Peer) -> bytes:
    """Return the body of the next response, which is a string as JSON."""
    assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
    await peer.read_until(b'"')
    return (await peer.read_until(b'"'))[:-1]


@pytest.mark.fault("F1")
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("pieces", ["one segment", "head and body", "single bytes"])
async def test_the_body_behind_an_offer_of_another_protocol_is_read(
    serve: Any, framing: str, pieces: str
) -> None:
    service: Service = await serve(router)
    fields, body = FRAMINGS[framing]
    async with service.raw_connection() as peer:
        if pieces == "one segment":
            await peer.send(JAVA + fields + body)
        else:
            await peer.send(JAVA + fields)
            size = 1 if pieces == "single bytes" else len(body)
            for start in range(0, len(body), size):
                await peer.send(body[start : start + size])
        assert await answer(peer) == BODY
        await peer.send(NEXT)
        assert await answer(peer) == b"next"


@pytest.mark.fault("F1")
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_requests_behind_an_offer_of_another_protocol_are_answered_in_order(
    serve: Any, framing: str
) -> None:
    service: Service = await serve(router)
    offer = JAVA + b"".join(FRAMINGS[framing])
    without_body = JAVA.replace(b"POST", b"GET") + b"\r\n"
    async with service.raw_connection() as peer:
        await peer.send(offer + NEXT + without_body + offer + NEXT)
        assert [await answer(peer) for _ in range(5)] == [BODY, b"next", b"", BODY, b"next"]


@pytest.mark.fault("F1")
async def test_what_looks_like_a_request_within_such_a_body_is_none(serve: Any) -> None:
    service: Service = await serve(router)
    length = b"Content-Length: %d\r\n\r\n" % len(NEXT)
    async with service.raw_connection() as peer:
        await peer.send(JAVA + length + NEXT)
        assert b"next" in (await peer.read_head()) + await peer.read_until(b'next"')
        await peer.send(NEXT.replace(b"Host", b"Connection: close\r\nHost"))
        assert (await peer.read_to_end()).count(b"HTTP/1.1 ") == 1


@pytest.mark.fault("F1")
async def test_many_offers_at_once_are_all_answered(serve: Any) -> None:
    count = 200
    service: Service = await serve(router)
    offer = JAVA + b"".join(FRAMINGS["chunks"])
    async with service.raw_connection() as peer:
        await peer.send(offer * count)
        for _ in range(count):
            assert await answer(peer) == BODY


async def test_an_offer_is_100_continued_like_any_other_request(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(JAVA + b"Expect: 100-continue\r\n" + FRAMINGS["length"][0])
        assert (await peer.read_head()).startswith(b"HTTP/1.1 100 ")
        await peer.send(BODY)
        assert await answer(peer) == BODY


@pytest.mark.fault("F1")
@pytest.mark.parametrize("http", ["", "h11"])
async def test_half_a_body_is_no_success_also_when_nobody_reads_it(
    monkeypatch: pytest.MonkeyPatch, http: str
) -> None:
    monkeypatch.setattr(exchange, "LINGER_SECONDS", 0.1)
    chosen: dict[str, Any] = {"http": http} if http else {}
    async with Service(router, streaming={"idle_timeout": 0.2}, **chosen) as service:

        async def status(method: str, path: str, framing: str) -> bytes:
            fields, body = FRAMINGS[framing]
            head = f"{method} {path} HTTP/1.1\r\nHost: test\r\n".encode()
            async with service.raw_connection() as peer:
                await peer.send(head + fields + body[:6])
                answered: bytes = await peer.read_head()
                assert json.loads(await peer.read_to_end())["status"] == 408
                assert await service.outcome_of(f"{method} {path}") == "timeout"
                return answered[:12]

        asked = [(*each, framing) for each in UNREAD for framing in FRAMINGS]
        found = await asyncio.gather(*(status(*each) for each in asked))
    assert set(found) == {b"HTTP/1.1 408"}


@pytest.mark.fault("F1")
@pytest.mark.slow
async def test_half_a_body_is_no_success_on_any_route(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 0.2})

    async def status(method: str, path: str) -> str:
        path = path.format_map(_Anything())
        async with service.raw_connection() as peer:
            await peer.send(f"{method} {path} HTTP/1.1\r\nHost: test\r\n".encode())
            await peer.send(b"Content-Length: 10\r\n\r\n01234")
            head: bytes = await peer.read_head()
            return head.split()[1].decode()

    paths = service.app.openapi()["paths"]
    asked = [("GET", "/docs"), *((each.upper(), path) for path in paths for each in paths[path])]
    # A transform begins before the end of its request, and ends after it.
    asked = [each for each in asked if not each[1].startswith("/transform/")]
    found = await asyncio.gather(*(status(*each) for each in asked))
    assert [each for each, code in zip(asked, found, strict=True) if code.startswith("2")] == []


@pytest.mark.fault("F1")
@pytest.mark.skipif("upload" not in Settings.model_fields, reason="there are no files")
async def test_half_a_request_deletes_nothing(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 0.2})
    async with service.client() as client, service.raw_connection() as peer:
        record = f"/files/{(await client.post('/files', content=b'x')).json()['id']}/record"
        path = record.removesuffix("/record")
        await peer.send(f"DELETE {path} HTTP/1.1\r\nHost: test\r\n".encode())
        await peer.send(b"Content-Length: 10\r\n\r\n01234")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 408 ")
        assert (await client.get(record)).status_code == 200


class _Anything(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "0" * 32


@pytest.mark.fault("F1")
async def test_a_body_that_nobody_reads_is_not_swallowed_without_end(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        length = b"Content-Length: 1000000000\r\n\r\n"
        await peer.send(b"POST /unread HTTP/1.1\r\nHost: test\r\n" + length)
        assert (await peer.read_head()).startswith(b"HTTP/1.1 413 ")
        peer.end()
        assert json.loads(await peer.read_to_end())["status"] == 413


async def test_a_whole_body_that_nobody_reads_keeps_the_connection(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        for path in (b"/unread", b"/unread/stream"):
            head = b"POST " + path + b" HTTP/1.1\r\nHost: test\r\n"
            await peer.send(head + FRAMINGS["length"][0] + BODY)
            assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
            await peer.read_until(b"done")
            await peer.read_until(b'"' if path == b"/unread" else b"0\r\n\r\n")


@pytest.mark.fault("F1")
@pytest.mark.parametrize("path", ["/duplex", "/plain"])
async def test_a_response_that_begins_early_does_not_end_before_its_request(
    serve: Any, path: str
) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.send(f"POST {path} HTTP/1.1\r\nHost: test\r\n".encode())
        await peer.send(b"Content-Length: 10\r\n\r\n01234")
        await peer.read_until(b"done\r\n")
        assert b"0\r\n\r\n" not in await peer.read_to_end()
    assert await service.outcome_of(f"POST {path}") == "timeout"


@pytest.mark.fault("F1")
async def test_a_server_that_loses_a_body_does_not_make_it_an_empty_one() -> None:
    async with (
        Service(router, http="httptools") as service,
        service.raw_connection() as peer,
    ):
        await peer.send(JAVA + b"".join(FRAMINGS["length"]))
        assert not (await peer.read_head()).startswith(b"HTTP/1.1 2")
