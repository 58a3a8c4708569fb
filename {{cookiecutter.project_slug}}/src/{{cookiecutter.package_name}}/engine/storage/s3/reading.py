"""Reading: ranges of objects, as they arrive; a lost connection is replaced by one for the rest.

The HTTP client reads small chunks, copies them, and pauses often. Large ranges are received without
it, from a socket, with 60 % of the CPU time: see `DirectBody`.
"""

import asyncio
import logging
import random
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from http.client import HTTPException, HTTPMessage, parse_headers
from io import BytesIO
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiohappyeyeballs import start_connection

from ...objects.bucket import CONNECT_SECONDS, READ_SECONDS, BucketError
from ..place import unavailable
from ..records import not_found
from .pool import Refused, S3Pool

#: Bytes of the largest chunk; and of a block for small ranges that are near each other.
CHUNK = 512 << 10
BLOCK = 256 << 10
#: Bytes of the smallest chunk. Chunks grow while each is taken within QUICK_SECONDS: a slow client
#: has limited time for a chunk.
LEAST = 64 << 10
QUICK_SECONDS = 1.0
#: Bytes above which a range is received without the client.
LARGE = 1 << 20
#: Seconds for which the client receives all ranges after S3 has not sent one without it.
PAUSE_SECONDS = 10.0
#: Seconds until the headers of a response, and the maximum of their bytes.
HEAD_SECONDS = 10.0
MAX_HEAD = 64 << 10
#: Seconds for which the URL of a request is valid.
URL_SECONDS = 300
#: Seconds after which another address of the server is tried as well.
NEXT_ADDRESS_SECONDS = 0.25
#: Connections that may be lost one after the other before any byte has arrived, and the seconds
#: before the second try; later intervals double.
TRIES = 5
RETRY_SECONDS = 0.1
#: The status codes that are about one object. After others, the client is asked for a while.
_OF_AN_OBJECT = {"206", "404", "412", "416"}
_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)[ \r]")

logger = logging.getLogger(__name__)


class S3File:
    """A stored file."""

    def __init__(self, pool: S3Pool, key: str, size: int = 0) -> None:
        """Bytes after a range are only read before `size`, by default none."""
        self._pool, self._key, self._size = pool, key, size
        #: The start of the last range, and the bytes from `_block_start` on that are in memory.
        self._last: int | None = None
        self._block, self._block_start = b"", 0

    def parts(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive), in chunks of up to 512 KiB.

        A range near the last one is read together with those that may follow it, in the same
        direction. Raises Problem 404 or 503 before the first chunk, 503 also later, and EOFError if
        the object is shorter.
        """
        last, self._last = self._last, start
        if last is None or abs(start - last) > BLOCK or stop - start > BLOCK:
            return self._parts(start, stop)
        return self._near(start, stop, start if start > last else max(stop - BLOCK, 0))

    async def _near(self, start: int, stop: int, first: int) -> AsyncGenerator[bytes]:
        """Yield a small range, and keep a block from `first` on in memory."""
        if not self._block_start <= start <= stop <= self._block_start + len(self._block):
            end = max(min(first + BLOCK, self._size), stop)
            async with aclosing(self._parts(first, end)) as chunks:
                self._block = b"".join([chunk async for chunk in chunks])
            self._block_start = first
        yield self._block[start - self._block_start : stop - self._block_start]

    async def _parts(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        tag, failures = "", 0
        while start < stop:
            body: ClientBody | DirectBody | None = None
            try:
                body = await self._get(start, stop, tag)
                if tag not in ("", body.tag):  # The server has ignored the condition.
                    raise EOFError("a stored file was replaced")
                tag = body.tag
                while start < stop:
                    with self._pool.bucket.errors():
                        chunk = await body.read()
                    if not chunk:
                        raise EOFError("a stored file is shorter than its record")
                    start += len(chunk)
                    failures = 0
                    yield chunk
            except BucketError as error:
                failures += 1
                if not tag or failures == TRIES:  # The client repeats the first request itself.
                    raise unavailable() from error
                await asyncio.sleep(RETRY_SECONDS * 2**failures * random.uniform(0.5, 1))  # noqa: S311
            finally:
                if body is not None:
                    body.close()

    async def _get(self, start: int, stop: int, tag: str) -> "ClientBody | DirectBody":
        """Request a range of the object that has this entity tag, if it is known."""
        pool = self._pool
        is_direct = stop - start > LARGE and pool.is_direct()
        if is_direct and (body := await _direct(pool, self._key, start, stop, tag)):
            return body
        condition: dict[str, Any] = {"IfMatch": tag} if tag else {}
        try:
            found = await pool.ask(
                "get_object", self._key, Range=f"bytes={start}-{stop - 1}", **condition
            )
        except Refused as refused:
            if refused.status == 404 and not tag:
                raise not_found() from None
            raise EOFError("a stored file was replaced, or is shorter than its record") from refused
        if not found.get("ContentRange", "").startswith(f"bytes {start}-"):
            found["Body"].close()
            raise BucketError(f"{self._key}: S3 has sent another range", is_temporary=False)
        return ClientBody(found)


class ClientBody:
    """The body of a response that the client has received."""

    def __init__(self, found: Any) -> None:
        self.tag: str = found["ETag"]
        self._body = found["Body"]

    async def read(self) -> bytes:
        """Return the next bytes, nothing at the end."""
        while True:
            # `read` would join what has arrived, which is a copy.
            chunk, is_framed = await self._body.raw_stream.content.readchunk()
            if chunk or not is_framed:
                return bytes(chunk)

    def close(self) -> None:
        self._body.close()


class DirectBody:
    """The body of a response, whose bytes stay in the socket until they are read."""

    def __init__(self, connection: socket.socket, tag: str, first: bytes, size: int) -> None:
        """`first` are the bytes that have been received already, of `size`."""
        self.tag = tag
        self._connection, self._first, self._rest = connection, first[:size], size
        self._loop = asyncio.get_running_loop()
        self._chunk, self._read_at = LEAST // 2, self._loop.time()
        #: Whether the event loop has run since the last chunk was received.
        self._others_ran = asyncio.Event()

    async def read(self) -> bytes:
        """Return the next bytes, nothing at the end; raises ConnectionError."""
        chunk, self._first = self._first, b""
        if not chunk and self._rest:
            is_quick = self._loop.time() - self._read_at < QUICK_SECONDS
            self._chunk = min(2 * self._chunk, CHUNK) if is_quick else max(self._chunk // 2, LEAST)
            try:
                chunk = await self._receive(min(self._chunk, self._rest))
            except OSError as error:
                raise ConnectionError(str(error) or "S3 sends nothing") from error
            if not chunk:
                raise ConnectionError("S3 has closed a connection")
        self._rest -= len(chunk)
        self._read_at = self._loop.time()
        return chunk

    async def _receive(self, size: int) -> bytes:
        if not self._others_ran.is_set():  # The caller never waits, and bytes are always ready.
            await asyncio.sleep(0)
        self._others_ran.clear()
        self._loop.call_soon(self._others_ran.set)
        try:
            return self._connection.recv(size)
        except BlockingIOError:
            async with asyncio.timeout(READ_SECONDS[1]):
                return await self._loop.sock_recv(self._connection, size)

    def close(self) -> None:
        self._connection.close()


async def _direct(pool: S3Pool, key: str, start: int, stop: int, tag: str) -> DirectBody | None:
    """Request a range without the client; return None unless S3 sends exactly this range.

    The client repeats the request then, and knows the errors of S3.
    """
    url = await _signed(pool, key)
    lines = [f"GET {url.path}?{url.query} HTTP/1.1", f"Host: {host_of(url)}", "Connection: close"]
    lines += [f"Range: bytes={start}-{stop - 1}", *([f"If-Match: {tag}"] if tag else []), "", ""]
    size, status = stop - start, ""
    with ExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = stack.enter_context(await _connected(url))
            async with asyncio.timeout(HEAD_SECONDS):
                request = "\r\n".join(lines).encode()
                await asyncio.get_running_loop().sock_sendall(connection, request)
                status, found, first = await _received_head(connection)
        # RuntimeError: of uvloop, for an address that cannot be used.
        except (OSError, RuntimeError, HTTPException) as error:
            logger.info("S3 has not replied to a request without the client: %s", error)
        else:
            etag = found.get("ETag", "")
            if (
                status == "206"
                and found.get("Content-Range", "").startswith(f"bytes {start}-{stop - 1}/")
                and found.get_all("Content-Length") == [str(size)]
                and "Transfer-Encoding" not in found
                and etag.isprintable()
                and etag
                and tag in ("", etag)
            ):
                stack.pop_all()
                return DirectBody(connection, etag, first, size)
    if status not in _OF_AN_OBJECT:
        pool.pause_direct(PAUSE_SECONDS)
    return None


async def _signed(pool: S3Pool, key: str) -> SplitResult:
    """Return the URL of a GET, whose signature contains no header but Host.

    Source: Amazon S3 API reference, "Authenticating Requests: Using Query Parameters".
    """
    values = {"Bucket": pool.bucket.name, "Key": key}
    with pool.bucket.errors():
        url: str = await pool.client.generate_presigned_url(
            "get_object", Params=values, ExpiresIn=URL_SECONDS
        )
    return urlsplit(url)


def host_of(url: SplitResult) -> str:
    """Return the host as it is signed: without the default port and a password."""
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if url.port in (None, 80) else f"{host}:{url.port}"


async def _connected(url: SplitResult) -> socket.socket:
    find = asyncio.get_running_loop().getaddrinfo
    addresses = await find(url.hostname, url.port or 80, type=socket.SOCK_STREAM)
    random.shuffle(addresses)  # They share the load.
    return await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)


async def _received_head(connection: socket.socket) -> tuple[str, HTTPMessage, bytes]:
    """Return the status code and the fields of a response, and what has arrived of its body."""
    loop, data = asyncio.get_running_loop(), b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = await loop.sock_recv(connection, MAX_HEAD)
        if not more or len(data) > MAX_HEAD:
            raise ConnectionError("no complete headers")
        data += more
    line, _, fields = data[: end + 4].partition(b"\n")
    status = _STATUS.match(line)
    return status[1].decode() if status else "", parse_headers(BytesIO(fields)), data[end + 4 :]
