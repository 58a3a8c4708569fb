"""How requests are read from a connection, and what ends it.

httptools stops at every offer of an upgrade, as if another protocol followed, and uvicorn closes
the connection under a request that is whole when what follows is wrong, or when nothing follows.

Sources: RFC 9110, sections 5.5 (field values), 7.8 (Upgrade) and 10.1.1 (Expect); RFC 9112,
section 9.6 (tear-down of a connection).
"""

import asyncio
import re
import socket
from contextlib import suppress
from typing import Any

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..kernel.fields import members
from .turns import SLICE, Sliced

#: Seconds between two looks whether a client is gone that is not read.
LOOK_EVERY = 1.0
#: Chunks of a body in one slice.
CHUNKS = 64
#: The end of a head, and of a body in chunks.
_END = b"\r\n\r\n"
#: The line before a chunk (RFC 9112, section 7.1), without an extension, and its longest.
_SIZE = re.compile(rb"(?=0*[1-9A-Fa-f])([0-9A-Fa-f]{1,16})\r\n")
_SIZE_LINE = 18

Data = bytes | memoryview


class Reading(Sliced, HttpToolsProtocol):
    """uvicorn's httptools protocol, which reads past offers and answers what is whole."""

    #: The request that is being answered.
    _running: Any = None
    #: Bytes of a body of known length that are still to come; of them the parser knows nothing.
    _missing = 0
    #: Bytes since the parser got anywhere: of a head, of what is behind the last chunk of a body.
    _pending = 0
    #: Whether a head is under way, and whether a body is.
    _head = _body = False
    #: Bytes of the body before the next line with a size, which may have begun; None: not known.
    _before_size: int | None = 0
    _size_line = b""
    #: What is answered behind the last whole request, in place of what follows it.
    _refused: bytes | None = None
    #: Whether the client has said that it sends nothing more.
    _half_closed = False
    _look: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.drop()
        if self._look is not None:
            self._look.cancel()
        # uvicorn tells the request that it read last, which is not the one that runs when the
        # client had sent another one behind it.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def parse(self, data: bytes) -> None:
        """Raises HttpParserError."""
        self._unset_keepalive_if_required()
        rest: Data = data
        while rest:
            rest = self._parse(rest)

    def slice_end(self, data: bytes, start: int) -> int:
        """End a slice with the first head or body in it: what follows may have to wait."""
        if self._missing:
            return start + self._missing
        end = self._end_of_chunks(data, start) if self._body else start
        if end > start:
            return end
        end = data.find(_END, start, start + SLICE)
        return start + SLICE if end < 0 else end + len(_END)

    def _end_of_chunks(self, data: bytes, start: int) -> int:
        """Return where a slice of a body in chunks ends: their number costs, and not their bytes.

        That is `start` when no chunk is known to begin there, as before the last one.
        """
        if self._before_size is None:
            return start
        end, line = start + self._before_size, self._size_line
        self._size_line = b""
        for _ in range(CHUNKS):
            if end >= len(data):
                break
            begun = len(line)
            line += data[end : end + _SIZE_LINE - begun]
            match = _SIZE.match(line)
            if match is None:
                if len(line) < _SIZE_LINE:  # More of it will come.
                    self._size_line, end = line, len(data)
                elif end == start:
                    self._before_size = None
                    return start
                break
            end += match.end() - begun + int(match[1], 16) + len(b"\r\n")
            line = b""
        self._before_size = max(end - len(data), 0)
        return end

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether the connection stays open, for the answers to what is whole.

        That a client sends nothing more is no abort. But it is how a subscriber leaves: a GET is
        given up, and so is a response that has begun.
        """
        if not self._half_closed and self._is_whole() and self._awaits_answer(self._running):
            self._half_closed = True
            if self._refused is None:
                self.cycle.keep_alive = False
            self._watch_client()
        return self._half_closed

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head:
            return  # A trailer, and no header (RFC 9110, section 6.5.1).
        # The framing is read as it came: no two servers shall see another one in it.
        if value.endswith((b" ", b"\t")) and name.lower() != b"transfer-encoding":
            value = value.strip(b" \t")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        is_current = self.parser.get_http_version() == "1.1"
        expected = members(self.headers, b"expect")
        self.expect_100_continue = is_current and b"100-continue" in expected
        super().on_headers_complete()
        self._body, self._before_size, self._size_line = True, 0, b""

    def on_message_complete(self) -> None:
        self._body = False
        if not self.parser.should_upgrade():  # Else the parser has only skipped what follows.
            self._missing = self._pending = 0
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Whether a WebSocket begins here, the one upgrade that is not ignored."""
        wanted = members(self.headers, b"upgrade") == [b"websocket"]
        is_current = self.parser.get_http_version() == "1.1"
        return wanted and is_current and self._should_upgrade_to_ws()

    def _offers_upgrade(self) -> bool:
        """Whether the parser stops at a head that is a request like any other."""
        is_offer = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        return is_offer and not self._should_upgrade()

    def _new_parser(self) -> None:
        self.parser = type(self.parser)(self)
        with suppress(AttributeError):  # As in uvicorn, for httptools before 0.6.3.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _parse(self, data: Data) -> Data:
        """Feed the parser; return what is behind the head of a request that offers an upgrade."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stopped:
            if self._should_upgrade():
                self._parsed -= len(data) - stopped.args[0]  # It takes them over.
                self.handle_websocket_upgrade()
                return b""
            # The head is read again, without what it offers: so its body is found like any other.
            offers = [field for field in self.headers if field[0] == b"upgrade"]
            head = self._without_upgrade()
            self._new_parser()
            self.parser.feed_data(head)
            self.headers += offers  # For the application, which may say why it is no handshake.
            return memoryview(data)[stopped.args[0] :]
        return b""

    def _without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_whole(self) -> bool:
        """Whether there is a whole request without an answer; one behind it that is not is dropped.

        Nothing more is read then.
        """
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
            self._missing = 0
        return self._answering() and not self.cycle.more_body

    def _awaits_answer(self, cycle: Any) -> bool:
        return not cycle.response_started and (
            cycle.scope["method"] != "GET" or has_body(cycle.scope["headers"])
        )

    def _is_unread(self) -> bool:
        """Whether the transport does not look whether the client is there."""
        return self._half_closed

    def _watch_client(self) -> None:
        if self._look is None:
            self._look = self.loop.call_later(LOOK_EVERY, self._look_for_client)

    def _look_for_client(self) -> None:
        """Abort when the client has reset the connection: it is not read, so nobody else looks."""
        self._look = None
        sock = self.transport.get_extra_info("socket")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        elif self._is_unread():
            self._watch_client()


def has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    found = dict(headers)
    return b"transfer-encoding" in found or found.get(b"content-length", b"0") != b"0"
