"""The head of a request: how large it may be, how long it may take, and what it may not say.

uvicorn with httptools waits for ever, keeps all of it, and accepts some that RFC 9112 refuses.
Sources: RFC 9110, section 15.5.9 (408); RFC 6585, section 5 (431); RFC 9112, sections 3.2 and 6.1.
"""

import asyncio
import logging
import re
from functools import cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..settings import ServerSettings, Settings
from ..streaming import REFUSALS, handshake_flaw
from .connections import connections_of

#: Requests of one connection that may wait for the one before them; each takes kilobytes.
MAX_PIPELINED = 500
#: What is answered also when there are too many connections.
NEVER_REFUSED = (b"/health/", b"/metrics")
#: A name or an address, and a port (RFC 3986, section 3.2).
_AUTHORITY = re.compile(rb"([\w.~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?", re.ASCII)
_END_OF_AUTHORITY = re.compile(rb"[/?]")
_FRAMING = {b"host", b"transfer-encoding"}

_QUIET = logging.getLogger(f"{__name__}.refused")
_QUIET.disabled = True

BAD_REQUEST = b"400 Bad Request"
TOO_LARGE = b"431 Request Header Fields Too Large"


@cache
def _limits() -> ServerSettings:
    return Settings().server


class HeadLimits(HttpToolsProtocol):
    """uvicorn's httptools protocol with a deadline and limits for the head of a request."""

    #: Whether a head is under way.
    _head = False
    #: Bytes since the parser got anywhere: of a head, of what is behind the last chunk of a body.
    _pending = 0
    #: How a request is refused that ends the parser.
    _refusal = BAD_REQUEST
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._all = connections_of(self.server_state)
        self._all.made(self)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.lost(self)
        self._unset_deadline()

    def data_received(self, data: bytes) -> None:
        self._pending += len(data)
        super().data_received(data)
        if self._pending > _limits().max_header_size and not self.transport.is_closing():
            self._refuse(TOO_LARGE)
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
        refusal = self._too_large(pending) or self._flaw()
        if not (refusal or self._all.begins(self) or self.url.startswith(NEVER_REFUSED)):
            refusal = b"503 Service Unavailable\r\nretry-after: 5"
        if refusal:
            self._refusal = refusal
            if refusal is not BAD_REQUEST:
                self.logger = _QUIET  # Else uvicorn says of each that it is invalid.
            raise ValueError(refusal)  # Ends the parser, and comes back below.
        super().on_headers_complete()
        if self.parser.should_upgrade() and not self._should_upgrade():
            # What follows would be of another protocol for the parser, and is dropped.
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answering():
            self._all.waits(self)

    def handle_websocket_upgrade(self) -> None:
        self._all.lost(self)
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def _too_large(self, pending: int) -> bytes | None:
        if pending <= _limits().max_header_size:
            return None
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return TOO_LARGE if size > _limits().max_header_size else None

    def _flaw(self) -> bytes | None:
        """Return the status that refuses what the parser lets through."""
        version = self.parser.get_http_version()
        framing = [field for field in self.headers if field[0] in _FRAMING]
        hosts = [value for name, value in framing if name == b"host"]
        if version not in ("1.1", "1.0"):
            return b"505 HTTP Version Not Supported"
        if len(framing) > len(hosts):
            codings = [value.lower() for name, value in framing if name != b"host"]
            if version == "1.0" or codings != [b"chunked"]:
                return BAD_REQUEST if version == "1.0" else b"501 Not Implemented"
        if self.url[:1] not in (b"/", b"*"):
            hosts = self._absolute(hosts)
        if len(hosts) != 1 and (hosts or version == "1.1"):
            return BAD_REQUEST
        if not all(map(_AUTHORITY.fullmatch, hosts)) or b"#" in self.url:
            return BAD_REQUEST
        if len(self.pipeline) > MAX_PIPELINED:
            return BAD_REQUEST
        return BAD_REQUEST if self.parser.should_upgrade() and self._misplaced_upgrade() else None

    def _absolute(self, hosts: list[bytes]) -> list[bytes]:
        """Take the host from the target, whatever Host says (RFC 9112, section 3.2.2)."""
        scheme, _, rest = self.url.partition(b"://")
        if scheme.lower() not in (b"http", b"https"):
            return [b""]
        host = _END_OF_AUTHORITY.split(rest)[0]
        self.headers[:] = [(name, host if name == b"host" else v) for name, v in self.headers]
        return [host] * len(hosts)

    def _should_upgrade(self) -> bool:
        """Whether a WebSocket begins; with a flaw in it a handshake is a request like any other."""
        version = self.parser.get_http_version()
        return super()._should_upgrade() and handshake_flaw(version, self.headers) is None

    def _misplaced_upgrade(self) -> bool:
        """Whether a WebSocket is asked for behind a request that runs, or with a body."""
        if not self._should_upgrade():
            return False
        fields = dict(self.headers)
        body = b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"
        return body or self._answering() or self.parser.get_method() != b"GET"

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
        REFUSALS[status[:3].decode()] += 1
        if not self._answering() or self._in_unanswered_body():
            head = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head % status)
        self.transport.close()

    def _in_unanswered_body(self) -> bool:
        return self.cycle.more_body and not (self.cycle.response_started or self.pipeline)
