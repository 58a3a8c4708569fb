"""Attacks of hostile clients: endless data, the same on every connection."""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, repeat

#: The approximate size of a write.
BLOCK = 256 << 10
#: A body that does not end before the load.
ENDLESS = 8 << 30

MASKED = b"\x80"
TEXT, BINARY, CONTINUATION, PING, PONG, FIN = 0x1, 0x2, 0x0, 0x9, 0xA, 0x80


@dataclass(frozen=True)
class Attack:
    """An attack; `{host}` in its text is replaced by the address of the server."""

    name: str
    title: str
    opening: str
    """What each connection sends first."""
    blocks: Callable[[], Iterable[bytes]]
    """What follows, on one connection; with the opening again when that has ended."""
    waits: bool = field(default=False, kw_only=True)
    """Whether the response to the opening comes before the rest is sent."""
    paced: bool = field(default=False, kw_only=True)
    """Whether each block follows when something of the response to the one before has come."""
    theirs: str = field(default="", kw_only=True)
    """The opening for the application beside ours, if it has the same to offer."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return a WebSocket frame of a client, with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126, size >> 8, size & 255])
    return bytes([kind]) + length + bytes(4) + payload


def block(unit: bytes) -> Callable[[], Iterator[bytes]]:
    """Repeat a unit endlessly, in large blocks."""
    whole = unit * max(1, BLOCK // len(unit))
    return lambda: repeat(whole)


def handshake(path: str, more: str = "") -> str:
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n"
    )


def get(path: str, more: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\n{more}\r\n"


def post(path: str, media_type: str, length: str = f"Content-Length: {ENDLESS}") -> str:
    start = f"POST {path} HTTP/1.1\r\nHost: {{host}}\r\n"
    return f"{start}Content-Type: {media_type}\r\n{length}\r\n\r\n"


CHUNKED = "Transfer-Encoding: chunked"
INGEST, JSONL = "/ingest/readings", "application/jsonl"
FORM = "multipart/form-data; boundary=b"
LIVE = "/health/live"


def frames(name: str, title: str, unit: bytes, first: bytes = b"") -> Attack:
    """Return an attack on a WebSocket."""

    def blocks() -> Iterator[bytes]:
        if first:
            yield first
        yield from block(unit)()

    path = "/topics/hostile/ws"
    return Attack(name, title, handshake(path), blocks, waits=True, theirs=handshake("/ws"))


def plain(
    name: str, title: str, path: str, media_type: str, unit: bytes, length: str = ""
) -> Attack:
    """Return an attack with an endless body."""
    length = length or f"Content-Length: {ENDLESS}"
    theirs = post("/body", media_type, length)
    return Attack(name, title, post(path, media_type, length), block(unit), theirs=theirs)


def requests(name: str, title: str, text: str, size: int = BLOCK, theirs: str = " ") -> Attack:
    """Return an attack with repeated requests, optionally in blocks of `size` bytes."""
    whole = text.encode() * max(1, size // len(text))
    return Attack(name, title, "", lambda: repeat(whole), paced=size < BLOCK, theirs=theirs)


def form(part: str, count: int) -> str:
    """Return a form with a number of parts, within the limits."""
    body = f"--b\r\n{part}" * count + "--b--\r\n"
    return post("/files", FORM, f"Content-Length: {len(body)}") + body


def new_prefixes() -> Iterator[bytes]:
    """Return a poll of new prefixes."""
    numbers = count()
    while True:
        asked = (",".join(f"u{next(numbers)}.*" for _ in range(32)) for _ in range(20))
        yield "".join(get(f"/topics/{names}/events?poll=0") for names in asked).encode()


def commands() -> bytes:
    words = ("subscribe", "unsubscribe")
    texts = (f'{{"type":"{word}","topics":["hostile.a","hostile.b.*"]}}' for word in words)
    return b"".join(frame(FIN | TEXT, text.encode()) for text in texts)


PART = 'Content-Disposition: form-data; name="f"'
LEFT_EMPTY = PART + '; filename=""\r\n\r\n\r\n'
COOKIE = f"Cookie: {'c=1; ' * 1400}\r\n"
FLOOD = get(LIVE, "a:b\r\n" * 12_000)

ATTACKS = [
    frames("pings", "WebSocket: pings", frame(FIN | PING)),
    frames("pongs", "WebSocket: pongs", frame(FIN | PONG)),
    frames("empty", "WebSocket: empty text frames", frame(FIN | TEXT)),
    frames("fragments", "WebSocket: empty fragments", frame(CONTINUATION), frame(TEXT, b"x")),
    frames("binary", "WebSocket: binary frames", frame(FIN | BINARY, b"x")),
    frames("commands", "WebSocket: subscribe and unsubscribe", commands()),
    requests("gets", "pipelined GETs, all at once", get(LIVE)),
    requests("paced", "pipelined GETs, paced", get(LIVE), 16 << 10),
    Attack(
        "behind", "pipelined GETs behind a stream",
        get("/topics/hostile/events"), block(get(LIVE).encode()), waits=True, theirs=get("/stream"),
    ),
    requests("headers", "64 KiB of short header lines", FLOOD, len(FLOOD)),
    plain("chunks", "chunks of 1 byte", "/files", "text/plain", b"1\r\nx\r\n", CHUNKED),
    plain(
        "extensions", "long chunk extensions", "/files", "text/plain",
        b"1;" + b"e" * 4000 + b"\r\nx\r\n", CHUNKED,
    ),
    requests(
        "form-headers", "form: many header lines",
        form(PART + "\r\n" + "a: \r\n" * 31 + "\r\n\r\n", 100), 1, "",
    ),
    requests("form-empty", "form: empty parts", form(LEFT_EMPTY, 150), 1, ""),
    requests("form-nameless", "form: parts without names", form("\r\n\r\n", 150), 1, ""),
    plain("jsonl", "JSON Lines: empty rows", INGEST, JSONL, b"\n"),
    plain("rows", "JSON Lines: objects of nothing", INGEST, JSONL, b"{}\n"),
    plain("csv", "CSV: empty rows", INGEST, "text/csv", b"\n"),
    Attack("prefixes", "polls of new prefixes", "", new_prefixes, paced=True),
    Attack(
        "handshakes", "handshakes with large cookies",
        handshake("/topics/hostile/ws", COOKIE), lambda: iter(()), waits=True,
        theirs=handshake("/ws", COOKIE),
    ),
]  # fmt: skip

BY_NAME = {attack.name: attack for attack in ATTACKS}
