"""What uvicorn's HTTP protocol does not do and no application can: aborts, interim responses, no
response at all, HTTP/1.0 framing, and bodies and files without copies.

It leans on uvicorn's internals: `protocol` looks whether they are what they were.
"""

import socket
import struct
import sys
from typing import Any

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from ..kernel.exchange import HANG_UP, SlowClient
from ..streams.push import DIRECT
from . import direct, sendfile
from .config import limits_of
from .head import HeadLimits
from .pipeline import BUFFER

MAX_CHUNKS = 1024
#: Bytes of a response that the system holds beyond those on their way.
NOT_SENT = 512 << 10

#: Linux's `struct tcp_info`: bytes_acked, bytes_received and notsent_bytes.
_TCP_INFO = struct.Struct("=120xQQ8xI")
#: SO_LINGER with a time of zero: closing sends RST and drops what is buffered.
_ABORT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Abortable:
    """Wraps the application of one request, with the connection that it is served on."""

    def __init__(self, app: Any, cycle: Any, send_timeout: float) -> None:
        self.app = app
        self.cycle = cycle
        self.send_timeout = send_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self.cycle
        framing = _CloseDelimited(cycle, send) if scope["http_version"] == "1.0" else None
        scope["extensions"] = sendfile.extensions(scope["scheme"])
        scope["extensions"][HANG_UP] = {}
        if framing is None:
            scope["extensions"]["http.response.informational"] = {}
            scope["extensions"][DIRECT] = {}
        try:
            await self.app(scope, self.receive, self._extended(framing.send if framing else send))
        except BaseException as error:
            # A peer that does not read never takes what is buffered, and without chunks a plain
            # close looks like the end of the body: in both cases only a reset tells the truth.
            close_delimited = framing is not None and framing.applies
            if isinstance(error, SlowClient) or (cycle.response_started and close_delimited):
                reset(cycle.transport)
            raise

    async def receive(self) -> Message:
        """Return the next of the body as it came: uvicorn copies it twice more.

        What a client has sent before it left comes first, and its leaving after that.
        """
        cycle = self.cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if not (cycle.chunks or cycle.disconnected or cycle.response_complete):
            cycle.flow.resume_reading()
            await cycle.message_event.wait()
        cycle.message_event.clear()
        chunks, cycle.chunks, cycle.buffered = cycle.chunks, [], 0
        cycle.flow.resume_reading()
        if cycle.response_complete or (cycle.disconnected and not chunks):
            return {"type": "http.disconnect"}
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return {"type": "http.request", "body": body, "more_body": cycle.more_body}

    def _extended(self, send: Send) -> Send:
        """Let the messages of our extensions pass: uvicorn does not know them."""
        cycle = self.cycle

        async def send_extended(message: Message) -> None:
            match message["type"]:
                case "http.response.body":
                    await send(message)
                case "http.response.start":
                    await send(message)
                    sendfile.announce(cycle)
                    direct.offer(cycle, message)
                case "http.response.zerocopysend":
                    await sendfile.send_part(cycle, message)
                case sendfile.PATH_SEND:
                    await sendfile.send_path(cycle, message, self.send_timeout)
                case "http.response.informational":  # RFC 9110, section 15.2.
                    if not cycle.response_started and not cycle.disconnected:
                        cycle.transport.write(_interim(message))
                case "http.connection.close":
                    # Else uvicorn sends a 500 for an application that returns without a response.
                    cycle.disconnected = True
                    cycle.transport.abort()
                case _:
                    await send(message)

        return send_extended


class _CloseDelimited:
    """HTTP/1.0 knows no chunks: a body of unknown length ends with the connection.

    uvicorn would send it chunked all the same. Source: RFC 9112, section 6.3.
    """

    def __init__(self, cycle: Any, send: Send) -> None:
        self.applies = False
        self._cycle = cycle
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self.applies = b"content-length" not in names
            if self.applies:
                self._cycle.chunked_encoding = False
        elif self.applies:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)


def _interim(message: Message) -> bytes:
    phrase = {104: "Upload Resumption Supported"}.get(message["status"], "")
    lines = [b"HTTP/1.1 %d %s" % (message["status"], phrase.encode())]
    lines += [name + b": " + value for name, value in message["headers"]]
    return b"\r\n".join([*lines, b"", b""])


def _user_timeout(config: uvicorn.Config) -> int:
    """Return the milliseconds for which a peer may leave sent data unacknowledged.

    A client whose link is down is otherwise noticed after 15 minutes. Much longer than the kernel's
    own deadline, as a window that opens in small steps counts as closed here.
    """
    return int(1000 * 4 * limits_of(config).send_timeout)


def reset(transport: Any) -> None:
    """Close a connection with RST and drop what is still buffered for it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    transport.abort()


class Connection(HeadLimits):
    """uvicorn's httptools protocol, with aborts, HTTP/1.0 framing and dead peers."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock.family == getattr(socket, "AF_UNIX", None):
            return
        # asyncio does this only for sockets that name their protocol, which uvicorn's own (with
        # several workers, or --reload) do not: every second small write would wait 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Megabytes of buffer are writable again when a third is free: who reads steadily but
            # slowly would look for minutes as if it did not read.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _user_timeout(self.config))

    def reset(self) -> None:
        """Close it with RST: its client neither sends nor takes."""
        reset(self.transport)

    def moved(self) -> int | None:
        """Return the bytes that the client has sent and taken, if it is the one we wait for.

        None too where the system does not tell: Linux does, of TCP.
        """
        if sys.platform != "linux":
            return None
        try:
            sock = self.transport.get_extra_info("socket")
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            taken, sent, unsent = _TCP_INFO.unpack_from(info)
        except (OSError, struct.error):
            return None
        # Who has sent a head has sent something.
        return taken + sent if sent and (unsent or self._awaits_body()) else None

    def _awaits_body(self) -> bool:
        cycle: Any = self.cycle
        waits = self._answering() and cycle.more_body and not cycle.waiting_for_100_continue
        return bool(waits) and not (self.flow.read_paused or self.flow.held)

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self._missing = _declared_length(self.headers)

    def data_received(self, data: bytes) -> None:
        if len(data) < self._missing and not self._unparsed:
            self.on_body(data)  # As it came: the parser would only count it, and copy it.
        else:
            super().data_received(data)

    def parse(self, data: bytes) -> None:
        if not self._missing:
            super().parse(data)
            return
        self.on_body(data)
        if not self._missing:
            # The parser still waits for this body, so the next request gets a new one.
            self._new_parser()
            self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        cycle: Any = self.cycle
        self._missing, self._pending = max(self._missing - len(body), 0), 0
        if cycle is None or cycle.response_complete:
            return
        cycle.chunks.append(body)
        cycle.buffered += len(body)
        if cycle.buffered > BUFFER or len(cycle.chunks) > MAX_CHUNKS:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        abortable: Any = Abortable(app, cycle, limits_of(self.config).send_timeout)
        super()._start_asgi_task(cycle, abortable)


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the bytes that the body will have; 0 for none and for an unknown length."""
    fields = dict(headers)
    if b"transfer-encoding" in fields:
        return 0
    return int(fields.get(b"content-length", b"0"))
