"""What uvicorn's HTTP protocol does not do and no application can: aborts and HTTP/1.0 framing.

It leans on uvicorn's internals, so it looks for them at import: where they differ, `Protocol` is
what uvicorn would choose itself, and a log line says so.
"""

import asyncio
import logging
import socket
import struct
import sys
from functools import cache
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..settings import Settings
from ..streaming import SlowClient

logger = logging.getLogger(__name__)

#: SO_LINGER with a time of zero: closing sends RST and drops what is buffered.
_ABORT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Abortable:
    """Wraps the application of one request, with the connection that it is served on."""

    def __init__(self, app: Any, cycle: Any) -> None:
        self.app = app
        self.cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self.cycle
        close_delimited = False

        async def send_close_delimited(message: Message) -> None:
            # HTTP/1.0 knows no chunks: a body of unknown length ends with the connection
            # (RFC 9112, section 6.3). uvicorn would send it chunked all the same.
            nonlocal close_delimited
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                close_delimited = b"content-length" not in names
                if close_delimited:
                    cycle.chunked_encoding = False
            elif close_delimited:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        is_1_0 = scope["http_version"] == "1.0"
        try:
            await self.app(scope, receive, send_close_delimited if is_1_0 else send)
        except BaseException as error:
            # A peer that does not read never takes what is buffered, and without chunks a plain
            # close looks like the end of the body: in both cases only a reset tells the truth.
            if cycle.response_started and (isinstance(error, SlowClient) or close_delimited):
                reset(cycle.transport)
            raise


@cache
def _user_timeout() -> int:
    """Return the milliseconds for which a peer may leave sent data unacknowledged.

    A client whose link is down is otherwise noticed after 15 minutes. Longer than the kernel's own
    deadline, which tells a slow client from a lost one.
    """
    return int(1000 * (Settings().streaming.send_timeout + 5))


def reset(transport: Any) -> None:
    """Close a connection with RST and drop what is still buffered for it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    transport.abort()


class _Protocol(HttpToolsProtocol):
    """uvicorn's httptools protocol, with aborts, HTTP/1.0 framing and dead peers."""

    #: The request that is being answered.
    _running: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock.family == getattr(socket, "AF_UNIX", None):
            return
        # asyncio does this only for sockets that name their protocol, which uvicorn's own (with
        # several workers, or --reload) do not: every second small write would wait 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _user_timeout())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn tells the request that it read last, which is not the one that runs when the
        # client had sent another one behind it.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if len(self.pipeline) == 1:
            self.flow.resume_reading()  # A socket that is not read does not tell that it closed.

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        abortable: Any = Abortable(app, cycle)
        super()._start_asgi_task(cycle, abortable)


def _choose() -> type[asyncio.Protocol]:
    needed = ("connection_made", "connection_lost", "on_headers_complete", "_start_asgi_task")
    missing = [name for name in needed if not hasattr(HttpToolsProtocol, name)]
    if missing:
        logger.warning("uvicorn has changed (%s): using its own protocol", ", ".join(missing))
        return AutoHTTPProtocol
    return _Protocol


Protocol = _choose()
