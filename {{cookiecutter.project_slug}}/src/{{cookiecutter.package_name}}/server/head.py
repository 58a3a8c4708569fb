"""The head of a request: how large it may be, and how long it may take.

uvicorn with httptools waits for ever and keeps all of it.
Sources: RFC 9110, section 15.5.9 (408); RFC 6585, section 5 (431).
"""

import asyncio
from functools import cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..settings import ServerSettings, Settings


@cache
def _limits() -> ServerSettings:
    return Settings().server


class HeadLimits(HttpToolsProtocol):
    """uvicorn's httptools protocol with a deadline and a limit for the head of a request."""

    #: Whether a head is under way.
    _head = False
    #: Bytes since the parser got anywhere: of a head, of what is behind the last chunk of a body.
    _pending = 0
    _too_large = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_deadline()

    def data_received(self, data: bytes) -> None:
        self._pending += len(data)
        super().data_received(data)
        if self._pending > _limits().max_header_size and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")
        # Also for line breaks, which begin no message; not for what has become a WebSocket.
        waiting = self._deadline is None and (self._head or not self._answering())
        if waiting and self.transport.get_protocol() is self:
            self._set_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head:  # Else it is a trailer, and no header (RFC 9110, section 6.5.1).
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        pending, self._head, self._pending = self._pending, False, 0
        self._unset_deadline()
        if self._answering() and self.parser.should_upgrade() and self._should_upgrade():
            raise ValueError("an upgrade while a request before it runs")
        if pending > _limits().max_header_size:  # Else it cannot be.
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            self._too_large = size > _limits().max_header_size
        if self._too_large:
            raise ValueError("the head is too large")  # Ends the parser, and comes back below.
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self._answering():
            self.transport.close()  # In the middle of an answer there is no place for another.
        elif self._too_large:
            self._refuse(b"431 Request Header Fields Too Large")
        else:
            super().send_400_response(msg)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(_limits().header_timeout, self._expire)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._answering():
            self._set_deadline()  # It came too early, behind another request.
        elif self._head:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        if not self._answering():
            head = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head % status)
        self.transport.close()
