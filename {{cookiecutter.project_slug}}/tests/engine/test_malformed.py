"""Malformed and ambiguous requests: they are refused, and no second request is read after them.

The table is the documentation. A second request follows every row. It gets a response, with the
last status of the row, only if the first request is whole and its end is unambiguous.
Sources: RFC 9112, sections 2.2 to 7.1; RFC 9110, section 5.5.
"""

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import RequestBody, exchange

from .peer import PATIENCE
from .service import Service, ServiceProcess

HOST = b"Host: test\r\n"
#: The headers of a body in chunks, and the last chunk.
CHUNKED = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
ONE = b"1\r\na\r\n" + END
#: The last header line, and the body.
FIVE = b"\r\nContent-Length: 5\r\n\r\nhello"
CODING = b"Transfer-Encoding: "
UPGRADE = b"Connection: Upgrade\r\nUpgrade: "
WEBSOCKET = (
    UPGRADE + b"websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SECOND = b"GET /second HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def line(first: bytes, fields: bytes = HOST) -> bytes:
    return first + b"\r\n" + fields + b"\r\n"


def get(fields: bytes) -> bytes:
    return line(b"GET /echo HTTP/1.1", fields + b"\r\n")


def post(fields: bytes, body: bytes = b"") -> bytes:
    return line(b"POST /echo HTTP/1.1", HOST + fields + b"\r\n") + body


#: Name, bytes, and the statuses of the responses.
TABLE: list[tuple[str, bytes, str]] = [
    # The length of a body: RFC 9112, sections 6.1 to 6.3.
    ("length", post(b"Content-Length: 5", b"hello"), "200 200"),
    ("coding before length", CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n" + END, "400"),
    ("length before coding", post(b"Content-Length: 5\r\n" + CODING + b"chunked", END), "400"),
    ("two lengths", post(b"Content-Length: 5\r\nContent-Length: 6", b"hello"), "400"),
    ("a length twice", post(b"Content-Length: 5\r\nContent-Length: 5", b"hello"), "400"),
    ("a list of lengths", post(b"Content-Length: 5, 5", b"hello"), "400"),
    ("length with plus", post(b"Content-Length: +3", b"abc"), "400"),
    ("length with minus", post(b"Content-Length: -1"), "400"),
    ("length in hexadecimal", post(b"Content-Length: 0x3", b"abc"), "400"),
    ("length with underscore", post(b"Content-Length: 0_3", b"abc"), "400"),
    ("length with spaces around", post(b"Content-Length:  3 ", b"abc"), "200 200"),
    ("length with space within", post(b"Content-Length: 3 3", b"abc"), "400"),
    ("no length", post(b"Content-Length: "), "400"),
    ("length above 64 bits", post(b"Content-Length: 99999999999999999999"), "400"),
    ("length of 64 bits", post(b"Content-Length: 18446744073709551615"), "413"),
    ("coding in capitals", post(CODING + b"CHUNKED", END), "200 200"),
    ("coding twice", post(CODING + b"chunked\r\n" + CODING + b"chunked", END), "400"),
    ("chunked is not last", post(CODING + b"chunked, identity", END), "400"),
    ("another coding first", post(CODING + b"gzip, chunked", END), "501"),
    ("another coding line", post(CODING + b"gzip\r\n" + CODING + b"chunked", END), "501"),
    ("identity first", post(CODING + b"identity, chunked", END), "501"),
    ("another coding", post(CODING + b"gzip", END), "501"),
    ("coding misspelt", post(CODING + b"xchunked", END), "501"),
    ("coding with parameter", post(CODING + b"chunked;a=b", END), "501"),
    ("coding in quotes", post(CODING + b'"chunked"', END), "501"),
    ("coding with tabs", post(b"Transfer-Encoding:\tchunked\t", END), "501"),
    ("coding with control", post(CODING + b"\x0bchunked", END), "400"),
    ("no coding", post(CODING, END), "400"),
    ("coding in HTTP/1.0", CHUNKED.replace(b"1.1", b"1.0") + END, "400"),
    # Host: section 3.2.
    ("two hosts", get(HOST + b"Host: other"), "400"),
    ("a host twice", get(HOST + HOST[:-2]), "400"),
    ("no host", line(b"GET /echo HTTP/1.1", b""), "400"),
    ("no host in HTTP/1.0", b"GET /echo HTTP/1.0\r\n\r\n", "200"),
    ("an empty host", get(b"Host: "), "400"),
    ("host with space", get(b"Host: a b"), "400"),
    ("host with path", get(b"Host: a/b"), "400"),
    ("host with user", get(b"Host: a@b"), "400"),
    ("host with letters for a port", get(b"Host: a:b"), "400"),
    ("host that is no ASCII", get(b"Host: \xc3\xa4"), "400"),
    ("host with address and port", get(b"Host: [::1]:8000"), "200 200"),
    # Lines: sections 2.2 and 5; RFC 9110, section 5.5.
    ("folded line", get(HOST + b"X: a\r\n b"), "400"),
    ("folded first line", get(b" " + HOST[:-2]), "400"),
    ("line feeds only", b"GET /echo HTTP/1.1\nHost: test\n\n", "400"),
    ("line feed behind a field", get(b"Host: test\nX: y"), "400"),
    ("line feed at the end", line(b"GET /echo HTTP/1.1")[:-2] + b"\n", "400"),
    ("carriage return within", get(HOST + b"X: a\rb"), "400"),
    ("carriage return for an end", get(b"Host: test\rX: y"), "400"),
    ("space before the colon", get(b"Host : test"), "400"),
    ("space before that of a length", post(b"Content-Length : 5", b"hello"), "400"),
    ("NUL in a value", get(HOST + b"X: a\0b"), "400"),
    ("control in a value", get(HOST + b"X: a\x7fb"), "400"),
    ("no ASCII in a value", get(HOST + b"X: \xe4"), "200 200"),
    ("control in a name", get(HOST + b"X\x01: b"), "400"),
    ("NUL in a name", get(HOST + b"X\0: b"), "400"),
    ("no ASCII in a name", get(HOST + b"X\xe4: b"), "400"),
    ("parenthesis in a name", get(HOST + b"X(): b"), "400"),
    ("no name", get(HOST + b": b"), "400"),
    ("no colon", get(HOST + b"X"), "400"),
    # Chunks: section 7.1.
    ("chunks", CHUNKED + b"1\r\na\r\n0\r\n\r\n", "200 200"),
    ("chunk size with plus", CHUNKED + b"+1\r\na\r\n0\r\n\r\n", "400"),
    ("chunk size with minus", CHUNKED + b"-1\r\na\r\n0\r\n\r\n", "400"),
    ("chunk size with 0x", CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", "400"),
    ("space before the chunk size", CHUNKED + b" 1\r\na\r\n0\r\n\r\n", "400"),
    ("space behind the chunk size", CHUNKED + b"1 \r\na\r\n0\r\n\r\n", "400"),
    ("no chunk size", CHUNKED + b"\r\na\r\n0\r\n\r\n", "400"),
    ("chunk size with zeros", CHUNKED + b"0" * 99 + b"1\r\na\r\n0\r\n\r\n", "200 200"),
    ("chunk size above 64 bits", CHUNKED + b"f" * 17 + b"\r\na\r\n0\r\n\r\n", "400"),
    ("chunk extension", CHUNKED + b"1;a=b\r\na\r\n0\r\n\r\n", "200 200"),
    ("line feed in an extension", CHUNKED + b"1;a\n\r\na\r\n0\r\n\r\n", "400"),
    ("line feed behind the chunk size", CHUNKED + b"1\na\r\n0\r\n\r\n", "400"),
    ("line feed behind a chunk", CHUNKED + b"1\r\na\n0\r\n\r\n", "400"),
    ("line feed behind the last chunk", CHUNKED + b"1\r\na\r\n0\n\n", "400"),
    ("nothing behind a chunk", CHUNKED + b"1\r\na0\r\n\r\n", "400"),
    ("a chunk too long", CHUNKED + b"1\r\nab\r\n0\r\n\r\n", "400"),
    ("a length in the trailer", CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", "400"),
    ("a trailer", CHUNKED + b"0\r\nX: y\r\n\r\n", "200 200"),
    # The first line: section 3.
    ("spaces before the target", line(b"GET  /echo HTTP/1.1"), "200 200"),
    ("space in the target", line(b"GET /echo x HTTP/1.1"), "400"),
    ("space before the method", line(b" GET /echo HTTP/1.1"), "400"),
    ("space behind the version", line(b"GET /echo HTTP/1.1 "), "400"),
    ("tabs", line(b"GET\t/echo\tHTTP/1.1"), "400"),
    ("empty lines before", line(b"\r\n\r\nGET /echo HTTP/1.1"), "200 200"),
    ("fragment", line(b"GET /echo#x HTTP/1.1"), "400"),
    ("NUL in the target", line(b"GET /echo\0 HTTP/1.1"), "400"),
    ("no ASCII in the target", line(b"GET /\xc3\xa4 HTTP/1.1"), "400"),
    ("relative target", line(b"GET echo HTTP/1.1"), "400"),
    ("absolute target", line(b"GET http://test/echo HTTP/1.1"), "200 200"),
    ("absolute target with user", line(b"GET http://a@test/echo HTTP/1.1"), "400"),
    ("absolute target of FTP", line(b"GET ftp://test/echo HTTP/1.1"), "400"),
    ("absolute target without host", line(b"GET http:///echo HTTP/1.1"), "400"),
    ("authority", line(b"CONNECT test:80 HTTP/1.1"), "501"),
    ("CONNECT to a path", line(b"CONNECT /echo HTTP/1.1"), "501"),
    ("asterisk", line(b"OPTIONS * HTTP/1.1"), "404 200"),
    ("unknown method", line(b"BREW /echo HTTP/1.1"), "400"),
    ("method in small letters", line(b"get /echo HTTP/1.1"), "400"),
    ("long method", line(b"A" * 99_999 + b" /echo HTTP/1.1"), "400"),
    ("long target", line(b"GET /" + b"a" * 99_999 + b" HTTP/1.1"), "431"),
    ("no version", line(b"GET /echo"), "505"),
    ("HTTP/0.9", line(b"GET /echo HTTP/0.9"), "505"),
    ("HTTP/1.2", line(b"GET /echo HTTP/1.2"), "400"),
    ("HTTP/2.0", line(b"GET /echo HTTP/2.0"), "505"),
    ("HTTP/9.9", line(b"GET /echo HTTP/9.9"), "400"),
    ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
    ("hello of TLS", bytes.fromhex("1603010200010001fc0303") + b"\x11" * 500, "400"),
    # Upgrades: RFC 9110, section 7.8. All but those to WebSockets are ignored.
    ("upgrade to HTTP/2", get(HOST + UPGRADE + b"h2c"), "200 200"),
    ("upgrade with a body", post(UPGRADE + b"h2c\r\nContent-Length: 5", b"hello"), "200 200"),
    ("upgrade with chunks", post(UPGRADE + b"h2c\r\n" + CODING + b"chunked", ONE), "200 200"),
    ("upgrade and an empty body", post(UPGRADE + b"h2c\r\nContent-Length: 0"), "200 200"),
    ("two upgrades", get(HOST + UPGRADE + b"h2c, websocket"), "200 200"),
    ("upgrade in two lines", get(HOST + UPGRADE + b"h2c\r\nUpgrade: TLS/1.0"), "200 200"),
    ("upgrade in HTTP/1.0", b"POST /echo HTTP/1.0\r\n" + UPGRADE + b"h2c" + FIVE, "200"),
    ("WebSocket in HTTP/1.0", b"GET /echo HTTP/1.0\r\n" + WEBSOCKET + b"\r\n", "200"),
    ("upgrade with two lengths", post(UPGRADE + b"h2c\r\nContent-Length: 6" + FIVE), "400"),
    ("upgrade, coding and length", post(UPGRADE + b"h2c\r\n" + CODING + b"chunked" + FIVE), "400"),
    ("upgrade with another coding", post(UPGRADE + b"h2c\r\n" + CODING + b"gzip", END), "501"),
    ("upgrade with a bad coding", post(UPGRADE + b"h2c\r\n" + CODING + b"chunked ", END), "501"),
    ("upgrade with a long line", get(HOST + UPGRADE + b"h2c\r\nX: " + b"y" * 99_999), "431"),
    ("upgrade with a bad host", get(b"Host: a b\r\n" + UPGRADE + b"h2c"), "400"),
]  # fmt: skip

#: Requests without an end: a beginning, and bytes that are repeated after it.
FLOODS = {
    "headers": (b"GET /echo HTTP/1.1\r\n", b"X: y\r\n" * 2000),
    "a header": (b"GET /echo HTTP/1.1\r\nX: ", b"y" * 10_000),
    "a name": (b"GET /echo HTTP/1.1\r\n", b"y" * 10_000),
    "a target": (b"GET /", b"y" * 10_000),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 2000),
    "an extension": (CHUNKED + b"1;", b"y" * 10_000),
}
#: Bytes of each flood, unless the server ends it.
FLOOD = 200 << 20


@pytest.fixture(scope="module")
def seen() -> list[str]:
    """The requests of `SECOND` that have reached the application."""
    return []


@pytest.fixture(scope="module")
def service(seen: list[str]) -> Iterator[Service]:
    router = APIRouter()

    async def echo(request: Request) -> str:
        await RequestBody(request, limit=1000).read()
        return request.headers.get("host", "")

    async def second() -> None:
        seen.append("second")

    router.api_route("/echo", methods=["GET", "POST"])(echo)
    router.get("/second")(second)
    started = Service(router)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "LINGER_SECONDS", 0.1)
        asyncio.run(started.__aenter__())
        yield started
        asyncio.run(started.__aexit__())


async def answers(service: Service | ServiceProcess, sent: bytes) -> str:
    """Return the responses until the service closes the connection."""
    async with service.raw_connection() as peer:
        with suppress(ConnectionError):
            await peer.send(sent)
        with suppress(ConnectionError):
            peer.unread = await peer.read_to_end()
        answered: bytes = peer.unread
        return answered.decode("latin-1")


async def flood(service: Service | ServiceProcess, beginning: bytes, more: bytes) -> None:
    """Send without end; raises an error of a closed connection."""
    async with service.raw_connection() as peer, asyncio.timeout(PATIENCE):
        await peer.send(beginning)
        for _ in range(FLOOD // len(more)):
            await peer.send(more)


@pytest.mark.parametrize(("sent", "statuses"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
async def test_only_what_can_be_read_in_one_way_is_answered(
    service: Service, seen: list[str], sent: bytes, statuses: str
) -> None:
    seen.clear()
    answered = await answers(service, sent + SECOND)
    assert re.findall(r"HTTP/1\.1 (\d+) ", answered) == statuses.split()
    assert len(seen) == statuses.count(" ")


async def test_the_host_of_an_absolute_target_counts(service: Service) -> None:
    sent = line(b"GET http://files.localhost:80/echo HTTP/1.1", HOST + b"Connection: close\r\n")
    assert (await answers(service, sent)).endswith('"files.localhost:80"')


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_websocket_begins_with_a_get_without_body(service: Service, method: bytes) -> None:
    length = b"Content-Length: 5\r\n" if method == b"GET" else b""
    sent = line(method + b" /echo HTTP/1.1", HOST + length + WEBSOCKET)
    assert (await answers(service, sent + b"hello" + SECOND)).startswith("HTTP/1.1 400 ")


@pytest.mark.trap("E2")
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_cut_off(service: Service, name: str) -> None:
    with pytest.raises(ConnectionError):
        await flood(service, *FLOODS[name])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the memory")
@pytest.mark.trap("E2")
@pytest.mark.slow
async def test_none_of_it_takes_memory(tmp_path: Path) -> None:
    async with ServiceProcess(tmp_path) as process:
        for _ in range(20):
            await answers(process, TABLE[0][1] + SECOND)
        before = process.peak_memory()

        for _, sent, _ in TABLE:
            await answers(process, sent + SECOND)
        for beginning, more in FLOODS.values():
            with suppress(ConnectionError):
                await flood(process, beginning, more)
        assert process.peak_memory() - before < 8 << 20
