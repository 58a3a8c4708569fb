"""A proxy in front of an S3 server or Redis, which fails as networks and servers do.

    with FaultProxy(endpoint_url) as proxy:
        fault = proxy.add(r"PUT .*/catalogue/log/", status=503, times=2)
        ...                      # the clients use proxy.url
        assert fault.count == 2

It runs in a thread of its own; tests call it from any thread.
"""

import asyncio
import re
import socket
import struct
import sys
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from ..peer import PATIENCE

T = TypeVar("T")
#: The codes of S3's errors (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
_CODES = {
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    500: "InternalError",
    503: "SlowDown",
}
_NO_BODY = re.compile(rb"HTTP/1.1 (1\d\d|204|304)")


class _Cut(Exception):
    """The connection ends here."""


@dataclass(eq=False)
class Fault:
    """A failure of the requests that match `pattern`, of up to `times` of them.

    The pattern is searched in the request line (`PUT /files/key?query HTTP/1.1`), for Redis in each
    piece of data that a client sends.
    """

    pattern: str
    times: int | None = None
    #: The server's response is replaced by this status; it does not receive the request.
    status: int | None = None
    #: The response is replaced by these bytes, and the connection ends.
    reply: bytes | None = None
    #: Seconds until the server receives the request.
    delay: float = 0
    #: Bytes of the request's body, or of the response's, after which the connection ends.
    cut_request: int | None = None
    cut_response: int | None = None
    #: The server receives the request, but the client receives no response.
    lose: bool = False
    #: The server receives the request, and the client its response, after `release`.
    hold_request: bool = False
    hold_response: bool = False
    #: The number of requests so far.
    count: int = 0
    _news: threading.Condition = field(default_factory=threading.Condition)
    _released: threading.Event = field(default_factory=threading.Event)

    def wait(self, count: int = 1) -> None:
        """Wait for this number of requests, and for the responses that are lost or held."""
        with self._news:
            assert self._news.wait_for(lambda: self.count >= count, PATIENCE), self

    def release(self) -> None:
        """Pass on the requests or responses that are held."""
        self._released.set()

    def remove(self) -> None:
        """Apply to no further request."""
        self.times = 0
        self.release()

    def takes(self, line: bytes) -> bool:
        """Whether the fault applies to this request."""
        if self.times == 0 or not re.search(self.pattern.encode(), line):
            return False
        if self.times is not None:
            self.times -= 1
        if not (self.hold_response or self.lose):
            self._report()
        return True

    async def before(self, client: StreamWriter) -> None:
        """Delay or hold a request, or respond in place of the server."""
        await asyncio.sleep(self.delay)
        if self.hold_request:
            await self._hold()
        if self.reply is not None:
            client.write(self.reply)
            raise _Cut
        if self.status is not None:
            code = _CODES.get(self.status, "Unknown")
            body = f"<Error><Code>{code}</Code><Message>A fault</Message></Error>".encode()
            head = f"HTTP/1.1 {self.status} {code}\r\nConnection: close\r\nContent-Length: "
            client.write(head.encode() + b"%d\r\n\r\n" % len(body) + body)
            raise _Cut

    async def after(self) -> None:
        """Hold or lose a response that has begun to arrive."""
        if self.hold_response or self.lose:
            self._report()
        if self.hold_response:
            await self._hold()
        if self.lose:
            raise _Cut

    async def _hold(self) -> None:
        while not self._released.is_set():  # It is set in another thread.
            await asyncio.sleep(0.005)

    def _report(self) -> None:
        with self._news:
            self.count += 1
            self._news.notify_all()


class FaultProxy:
    """Passes connections to a server on, with the faults that were added."""

    def __init__(self, target: str) -> None:
        """`target` is the URL of the server, `http:` or `redis:`."""
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self._is_http = parts.scheme == "http"
        #: The request lines so far, of HTTP.
        self.requests: list[str] = []
        #: Bytes of bodies that were passed on.
        self.passed = 0
        self.faults: list[Fault] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[asyncio.Task[None]] = set()
        self._ends: WeakSet[StreamWriter] = WeakSet()
        self._flows = asyncio.Event()
        self._flows.set()
        self._port = 0
        self._rest = f"{parts.path}?{parts.query}".rstrip("?")
        self._scheme = parts.scheme

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"{self._scheme}://127.0.0.1:{self._port}{self._rest}"

    def add(self, pattern: str, **what: Any) -> Fault:
        """Add a fault; the first one that matches a request applies."""
        fault = Fault(pattern, **what)
        self.faults.append(fault)
        return fault

    def count(self, pattern: str) -> int:
        """Return the number of the requests whose request line matches."""
        return sum(re.search(pattern, each) is not None for each in self.requests)

    def clear(self) -> None:
        """Remove all faults."""
        while self.faults:
            self.faults.pop().remove()

    def cut(self) -> None:
        """Reset all connections."""
        self._call(self._cut)

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._call(self._refuse)

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        self._call(self._accept)

    def freeze(self) -> None:
        """Pass no byte on, without closing connections."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.set)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self.refuse()
        self._call(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(PATIENCE)

    async def _accept(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, limit=1 << 20
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        self._server.close()
        await self._cut()

    async def _end(self) -> None:
        """End the connections, also those that are being accepted, or closed with unsent bytes."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for each in others:
                each.cancel()
            await asyncio.wait(others)
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(0)

    async def _cut(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        ends = [writer]
        self._ends.add(writer)
        try:
            with suppress(_Cut, OSError, EOFError):
                there, back = await asyncio.open_connection(*self._target, limit=1 << 20)
                ends.append(back)
                self._ends.add(back)
                if self._is_http:
                    while await self._exchange(reader, writer, there, back):
                        pass
                else:
                    await _both(self._ask(reader, back, writer), self._pass(there, writer))
            for end in ends:  # The bytes so far arrive.
                end.close()
            with suppress(OSError):
                await asyncio.gather(*(end.wait_closed() for end in ends))
        except asyncio.CancelledError:  # See `cut`.
            for end in ends:
                _reset(end)
        finally:
            self._links.discard(link)

    async def _ask(self, reader: StreamReader, back: StreamWriter, client: StreamWriter) -> None:
        """Pass the data of a client of Redis on."""
        while data := await reader.read(1 << 16):
            fault = self._fault(data)
            await fault.before(client)
            await self._flows.wait()
            back.write(data)
            await back.drain()
            await fault.after()
        raise _Cut

    async def _pass(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        raise _Cut

    def _fault(self, line: bytes) -> Fault:
        return next((each for each in self.faults if each.takes(line)), Fault(""))

    async def _exchange(
        self, reader: StreamReader, writer: StreamWriter, there: StreamReader, back: StreamWriter
    ) -> bool:
        """Pass one request and its response on; whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.partition(b"\r\n")[0]
        self.requests.append(line.decode())
        fault = self._fault(line)
        await fault.before(writer)

        async def request() -> None:
            back.write(head)
            await self._body(head, reader, back, fault.cut_request)

        async def response() -> bytes:
            found = await there.readuntil(b"\r\n\r\n")
            while found.startswith(b"HTTP/1.1 1"):
                writer.write(found)
                found = await there.readuntil(b"\r\n\r\n")
            await fault.after()
            await self._flows.wait()
            writer.write(found)
            if not line.startswith(b"HEAD ") and not _NO_BODY.match(found):
                await self._body(found, there, writer, fault.cut_response)
            return found

        found = await _both(request(), response())
        return b"\r\nconnection: close\r\n" not in found.lower()

    async def _body(
        self, head: bytes, reader: StreamReader, writer: StreamWriter, cut: int | None
    ) -> None:
        """Pass a body on, up to `cut` bytes of it."""
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            size = 1
            while size:
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                writer.write(line)
                await self._bytes(size + 2, reader, writer, cut)
        elif length or head.startswith(b"HTTP/"):
            await self._bytes(int(length[1]) if length else 1 << 62, reader, writer, cut)
        await writer.drain()

    async def _bytes(
        self, size: int, reader: StreamReader, writer: StreamWriter, cut: int | None
    ) -> None:
        rest = size if cut is None else min(cut, size)
        while rest:
            data = await reader.read(min(rest, 1 << 16))
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
            rest -= len(data)
            self.passed += len(data)
            if not data:
                raise _Cut
        if cut is not None and cut < size:
            raise _Cut


def _reset(writer: StreamWriter) -> None:
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _both(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, T]) -> T:
    """Run both directions of a connection until the second ends, or one fails."""
    tasks = asyncio.create_task(first), asyncio.create_task(second)
    try:
        pending: set[asyncio.Task[Any]] = set(tasks)
        while not tasks[1].done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        if tasks[0].done():
            return tasks[1].result()
        # The server has responded before the end of the request.
        await asyncio.wait([tasks[0]], timeout=PATIENCE)
        return tasks[1].result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
