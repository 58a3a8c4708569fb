"""The head of a request: how large it may be, how long it may take, and what it may not say.

uvicorn with httptools waits for ever, keeps all of it, and accepts some that RFC 9112 refuses.
Sources: RFC 9110, section 15.5.9 (408); RFC 6585, section 5 (431); RFC 9112, sections 3.2 and 6.1.
"""

import asyncio
import re
from typing import Any
from urllib.parse import unquote

from httptools import HttpParserError, parse_url

from ..kernel.body import UNWANTED
from ..kernel.kernel import REFUSALS
from ..kernel.origins import handshake_flaw
from .config import limits_of
from .connections import connections_of
from .pipeline import Pipeline
from .reading import has_body

#: What is answered also when there are too many connections.
NEVER_REFUSED = (b"/health/", b"/metrics")
#: A name or an address, and a port (RFC 3986, section 3.2).
AUTHORITY = re.compile(rb"([\w.~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?", re.ASCII)
_END_OF_AUTHORITY = re.compile(rb"[/?]")
_FRAMING = {b"host", b"transfer-encoding"}

BAD_REQUEST = b"400 Bad Request"
TOO_LARGE = b"431 Request Header Fields Too Large"
NOT_IMPLEMENTED = b"501 Not Implemented"


class HeadLimits(Pipeline):
    """A deadline and limits for the head of a request; malformed and ambiguous ones are refused."""

    #: How a request is refused that ends the parser.
    _refusal = BAD_REQUEST
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        limits = limits_of(self.config)
        self._limits = limits.server
        self._all = connections_of(self.server_state, limits)
        self._all.made(self)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.lost(self)
        self._unset_deadline()

    def parse(self, data: bytes) -> None:
        self._pending += len(data)
        if self._refused is not None:
            # Read all the same, or nobody would see that the client leaves.
            if self._pending > UNWANTED:
                self.transport.close()
            return
        try:
            super().parse(data)
        except HttpParserError:
            if self._refusal is BAD_REQUEST:
                self.logger.warning("Invalid HTTP request received.")
            self._refuse(self._refusal)
            return
        is_large = self._pending > self._limits.max_header_size or (
            self._head and self._many_lines()
        )
        if is_large and not self.transport.is_closing():
            self._refuse(TOO_LARGE)
        # Also for line breaks, which begin no message; not for what has become a WebSocket.
        waiting = self._deadline is None and (self._head or not self._answering())
        if waiting and self.transport.get_protocol() is self:
            self._set_deadline()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = True

    def on_headers_complete(self) -> None:
        if self._offers_upgrade():
            return  # It is read again, without the offer.
        pending, self._head, self._pending = self._pending, False, 0
        self._unset_deadline()
        refusal = self._too_large(pending) or self._flaw()
        if not (refusal or self._all.begins(self) or self.url.startswith(NEVER_REFUSED)):
            refusal = b"503 Service Unavailable\r\nretry-after: 5"
        if refusal:
            self._refusal = refusal
            raise ValueError(refusal)  # Ends the parser, and comes back as an error of it.
        if self._should_upgrade():
            self._locate()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._answering():
            return
        if self._refused is None:
            self._all.waits(self)
        elif not self.transport.is_closing():
            self._end_with(self._refused)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over with the head as it was read here: no parser reads it again."""
        self._all.lost(self)
        self.connections.discard(self)
        rest = self.drop()
        make: Any = self.ws_protocol_class
        websocket = make(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        websocket.connection_made(self.transport)
        self.transport.set_protocol(websocket)
        websocket.open(self.scope, rest)

    def _locate(self) -> None:
        """Set what a target says; uvicorn leaves that of a handshake to another parser."""
        target = parse_url(self.url)
        path = self.root_path + target.path.decode("ascii")
        query = (target.query or b"").decode("ascii").encode()
        self.scope |= {"path": unquote(path), "raw_path": path.encode(), "query_string": query}

    def _many_lines(self) -> bool:
        return len(self.headers) > self._limits.max_header_fields

    def _too_large(self, pending: int) -> bytes | None:
        if self._many_lines():
            return TOO_LARGE
        if pending <= self._limits.max_header_size:
            return None
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return TOO_LARGE if size > self._limits.max_header_size else None

    def _flaw(self) -> bytes | None:
        """Return the status that refuses what the parser lets through."""
        version = self.parser.get_http_version()
        framing = [field for field in self.headers if field[0] in _FRAMING]
        hosts = [value for name, value in framing if name == b"host"]
        if version not in ("1.1", "1.0"):
            return b"505 HTTP Version Not Supported"
        if self.parser.get_method() == b"CONNECT":
            return NOT_IMPLEMENTED
        if len(framing) > len(hosts):
            codings = [value.lower() for name, value in framing if name != b"host"]
            if version == "1.0" or codings != [b"chunked"]:
                return BAD_REQUEST if version == "1.0" else NOT_IMPLEMENTED
        if self.url[:1] not in (b"/", b"*"):
            hosts = self._absolute(hosts)
        if len(hosts) != 1 and (hosts or version == "1.1"):
            return BAD_REQUEST
        if not all(map(AUTHORITY.fullmatch, hosts)) or b"#" in self.url:
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
        is_get = self.parser.get_method() == b"GET"
        return has_body(self.headers) or self._answering() or not is_get

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self._limits.header_timeout, self._expire)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._refused is not None and self._running.chunked_encoding:
            self.transport.close()  # An answer without a known end may have none.
        elif self._answering():
            self._set_deadline()  # It came too early, behind another request.
        elif self._head:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        """Answer with a status, behind those of the requests that are whole, and close."""
        REFUSALS[status[:3].decode()] += 1
        if self._is_whole():
            self._refused, self._pending = status, 0
            self._unset_deadline()
            self._set_deadline()
        elif not self._answering() or not self.cycle.response_started:
            self._end_with(status)
        else:
            self.transport.close()

    def _end_with(self, status: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(head % status)
        self.transport.close()
