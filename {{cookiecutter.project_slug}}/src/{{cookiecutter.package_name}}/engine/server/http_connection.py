"""HTTP/1.1 on one connection: uvicorn's httptools protocol with deadlines, limits, strict framing.

uvicorn's own protocol waits for headers indefinitely and keeps any number of them, reads any number
of pipelined requests, closes the connection of a complete request when malformed bytes or FIN
follow it, and stops at every offer of another protocol.

Sources: RFC 9110, sections 5.5 (field values), 6.5.1 (trailers), 7.8 (Upgrade), 10.1.1 (Expect)
and 15.5.9 (408); RFC 9112, sections 9.3.2 (pipelining) and 9.6 (half-closed connections); RFC 6585,
section 5 (431).
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, parse_url
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..kernel.body import UNWANTED
from ..kernel.fields import members
from ..kernel.kernel import BOUNDS, REFUSALS
from ..settings import ServerSettings
from . import request_headers, sockets
from .asgi import RequestInterface, optional
from .capacity import capacity_of
from .parse_scheduler import SLICE, ScheduledProtocol
from .request_headers import BAD_REQUEST, TOO_LARGE

#: Bytes and chunks of a body that may wait for the application before reading is paused.
BUFFER, MAX_CHUNKS = 256 << 10, 1024
#: Seconds between two checks whether the client has left, while reading is paused.
CHECK_EVERY = 1.0
#: Paths that are served even when there are too many connections.
NEVER_REFUSED = (b"/health/", b"/metrics")
chunk_sizes = optional("chunk_sizes")  # Comes with streams, which take large bodies.


class Flow(FlowControl):
    """uvicorn's flow control with a second reason to pause reading: unparsed bytes."""

    def __init__(self, connection: "HTTPConnection") -> None:
        super().__init__(connection.transport)
        self._connection = connection
        self.held = False

    def hold(self) -> None:
        self.held = True
        self._transport.pause_reading()

    def release(self) -> None:
        self.held = False
        if not self.read_paused:
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()
        elif self.read_paused:
            self.read_paused = False
            self._connection.resume()


class HTTPConnection(ScheduledProtocol, HttpToolsProtocol):
    """The protocol class that uvicorn runs for each connection."""

    #: Requests that wait for an earlier one, on all connections of this process.
    _all_waiting = 0
    #: The number of those on this connection.
    _counted = 0
    #: The request that the application is handling.
    _running: Any = None
    #: Whether the parser is in the headers of a request.
    _in_headers = False
    #: The sizes of the chunks, while the parser is in a chunked body.
    _chunks: Any = None
    #: Bytes of a body of known length that are still to come; the parser does not see them.
    _missing = 0
    #: Bytes that the parser has read of incomplete headers, or after the last chunk of a body.
    _pending = 0
    #: The fields of the headers that are being parsed, or of the trailers.
    _fields = 0
    #: The status that is sent when the parser fails.
    _on_error = BAD_REQUEST
    #: The status that is sent after the responses to complete requests; once it is set, nothing
    #: more is parsed.
    _refused: bytes | None = None
    #: Whether the client has sent FIN.
    _half_closed = False
    _deadline: asyncio.TimerHandle | None = None
    _next_check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow: Any = Flow(self)
        sockets.configure(transport, self.config.send_timeout)
        self._limits: ServerSettings = self.config.limits
        self._capacity = capacity_of(self.server_state, self._limits.max_connections)
        self._capacity.opens(self)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.drop()
        self.pipeline.clear()
        self._count_waiting()
        self._capacity.leaves(self)
        self._cancel_deadline()
        if self._next_check is not None:
            self._next_check.cancel()
        # uvicorn wakes up the request that was read last. With pipelining, another one may be
        # running.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether the connection stays open, for the responses to complete requests.

        FIN is no abort: a client may have sent all of its requests. But subscribers also
        disconnect in this way, so a GET without a body is abandoned, and so is a response that has
        begun.
        """
        if not self._half_closed and self._is_complete() and self._awaits_response():
            self._half_closed = True
            if self._refused is None:
                self.cycle.keep_alive = False
            self._check_client_later()
        return self._half_closed

    # Parsing

    def data_received(self, data: bytes) -> None:
        if len(data) < self._missing and not self._unparsed:
            self.on_body(data)  # The parser would only count and copy it.
        else:
            super().data_received(data)

    def slice_end(self, data: bytes, start: int) -> int:
        """End a slice with the first headers or body in it: the request that follows may have to
        wait."""
        if self._missing:
            return start + self._missing
        end = self._chunks.slice_end(data, start) if self._chunks else start
        if end > start:
            return end
        end = data.find(b"\r\n\r\n", start, start + SLICE)
        return start + SLICE if end < 0 else end + 4

    def may_parse(self) -> bool:
        return not (self.flow.read_paused or self._is_full())

    def hold(self) -> None:
        self.flow.hold()

    def resume(self) -> None:
        super().resume()
        if self._held and self._is_full():
            BOUNDS["server.max_pipelined"] += 1
            self._check_client_later()

    def release(self) -> None:
        self.flow.release()

    def parse(self, data: bytes) -> None:
        if self._missing:
            self.on_body(data)
            if not self._missing:
                self._new_parser()  # The old one still waits for this body.
                self.on_message_complete()
            return
        self._pending += len(data)
        if self._refused is not None:
            # Continue reading: otherwise nothing detects that the client leaves.
            if self._pending > UNWANTED:
                self.transport.close()
            return
        self._unset_keepalive_if_required()
        try:
            rest: bytes | memoryview = data
            while rest:
                rest = self._feed(rest)
        except HttpParserError:
            if self._on_error is BAD_REQUEST:
                self.logger.warning("Invalid HTTP request received.")
            self._refuse(self._on_error)
            return
        if self._pending > self._limits.max_header_size and not self.transport.is_closing():
            self._refuse(TOO_LARGE)
        # Also after empty lines, which do not begin a message, but not after an upgrade.
        waits = self._deadline is None and (self._in_headers or not self._is_answering())
        if waits and self.transport.get_protocol() is self:
            self._set_deadline()

    def _feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Feed the parser; return what follows the headers of a request that offers an upgrade."""
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stopped:
            if self._should_upgrade():
                self._parsed -= len(data) - stopped.args[0]  # `drop` returns the rest.
                self.handle_websocket_upgrade()
                return b""
            # Parse the headers again without the offer, so that the body is found.
            offers = [field for field in self.headers if field[0] == b"upgrade"]
            version = self.parser.get_http_version().encode()
            lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
            lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
            self._new_parser()
            self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
            self.headers += offers  # The application may report why it is not a handshake.
            return memoryview(data)[stopped.args[0] :]
        return b""

    def _new_parser(self) -> None:
        self.parser = type(self.parser)(self)
        with suppress(AttributeError):  # As in uvicorn, for httptools before 0.6.3.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers, self._fields = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > self._limits.max_header_fields:
            self._fail(TOO_LARGE)
        if not self._in_headers:
            return  # A trailer, which is no header.
        # Transfer-Encoding stays as it was sent: a proxy may have taken it for another framing.
        if value.endswith((b" ", b"\t")) and name.lower() != b"transfer-encoding":
            value = value.strip(b" \t")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_ignored_offer():
            return  # `_feed` parses these headers again.
        pending, self._pending, self._in_headers = self._pending, 0, False
        self._fields = 0
        self._cancel_deadline()
        version = self.parser.get_http_version()
        if refusal := self._refusal(version, pending):
            self._fail(refusal)
        if self.parser.should_upgrade():
            self._set_target()
        expected = members(self.headers, b"expect")
        self.expect_100_continue = version == "1.1" and b"100-continue" in expected
        previous = self.cycle
        super().on_headers_complete()
        if chunk_sizes is not None and b"transfer-encoding" in dict(self.headers):
            self._chunks = chunk_sizes.ChunkSizes()
        cycle: Any = self.cycle
        if cycle is not previous:  # It is not an upgrade.
            cycle.chunks, cycle.buffered = [], 0
            self._missing = request_headers.declared_length(self.headers)
        self._count_waiting()
        if self.pipeline and not self._is_full():
            self.flow.resume_reading()  # Otherwise FIN or a reset would not be noticed.

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

    def on_message_complete(self) -> None:
        self._chunks = None
        if not self.parser.should_upgrade():  # Otherwise the parser has skipped the body.
            self._missing = self._pending = 0
            super().on_message_complete()

    def _fail(self, status: bytes) -> NoReturn:
        self._on_error = status
        raise ValueError(status)  # Stops the parser, which raises HttpParserError.

    # Requests and responses

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        interface: Any = RequestInterface(app, cycle, self.config.send_timeout)
        super()._start_asgi_task(cycle, interface)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._count_waiting()
        self.resume()
        if self._is_answering():
            return
        if self._refused is None:
            self._capacity.waits(self)
        elif not self.transport.is_closing():
            self._respond_and_close(self._refused)

    def handle_websocket_upgrade(self) -> None:
        """Pass on the connection and the scope, so that the headers are not parsed again."""
        self._capacity.leaves(self)
        self.connections.discard(self)
        rest = self.drop()
        make: Any = self.ws_protocol_class
        websocket = make(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        websocket.connection_made(self.transport)
        self.transport.set_protocol(websocket)
        websocket.open(self.scope, rest)

    def _set_target(self) -> None:
        """Set the target of a handshake; uvicorn leaves this to the parser of WebSockets."""
        target = parse_url(self.url)
        path = self.root_path + target.path.decode("ascii")
        query = (target.query or b"").decode("ascii").encode()
        self.scope |= {"path": unquote(path), "raw_path": path.encode(), "query_string": query}

    def _should_upgrade(self) -> bool:
        """Return whether a WebSocket begins: other offers and flawed handshakes are ignored."""
        version = self.parser.get_http_version()
        return request_headers.is_handshake(version, self.headers)

    def _is_ignored_offer(self) -> bool:
        is_offer = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        return is_offer and not self._should_upgrade()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_complete(self) -> bool:
        """Return whether a complete request waits for its response.

        A request after it that is incomplete is dropped, as nothing more is read.
        """
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
            self._missing = 0
        return self._is_answering() and not self.cycle.more_body

    def _awaits_response(self) -> bool:
        scope = self._running.scope
        is_get = scope["method"] == "GET" and not request_headers.has_body(scope["headers"])
        return not (self._running.response_started or is_get)

    # Pipelining

    def _is_full(self) -> bool:
        """Return whether too many requests wait for an earlier one.

        Each takes kilobytes of memory, although a client sends it in 20 bytes.
        """
        number, total = len(self.pipeline), HTTPConnection._all_waiting
        if number >= self._limits.max_pipelined or (number and total >= self._limits.max_waiting):
            return True
        waiting: Any = self.pipeline
        return bool(number) and sum(cycle.buffered for cycle, _ in waiting) > BUFFER

    def _count_waiting(self) -> None:
        number = len(self.pipeline)
        HTTPConnection._all_waiting += number - self._counted
        self._counted = number

    def _check_client_later(self) -> None:
        if self._next_check is None:
            self._next_check = self.loop.call_later(CHECK_EVERY, self._check_client)

    def _check_client(self) -> None:
        """Abort if the client has reset the connection: the loop notices it only while it reads."""
        self._next_check = None
        sock = self.transport.get_extra_info("socket")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        elif self._half_closed or self._is_full():
            self._check_client_later()

    # Deadlines and refusals

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self._limits.header_timeout, self._expire)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._refused is not None and self._running.chunked_encoding:
            self.transport.close()  # A response in chunks may never end.
        elif self._is_answering():
            self._set_deadline()  # The request of these headers waits for an earlier one.
        elif self._in_headers:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refusal(self, version: str, pending: int) -> bytes | None:
        """Return the status that refuses the request whose headers are complete, or None."""
        method, maximum = self.parser.get_method(), self._limits.max_header_size
        size = request_headers.size_of(self.url, self.headers) if pending > maximum else 0
        if size > maximum:
            return TOO_LARGE
        if refusal := request_headers.refusal(method, version, self.url, self.headers):
            return refusal
        if self.parser.should_upgrade() and (
            method != b"GET" or self._is_answering() or request_headers.has_body(self.headers)
        ):
            return BAD_REQUEST  # A handshake is a GET without a body, after all earlier responses.
        if self._capacity.begins(self) or self.url.startswith(NEVER_REFUSED):
            return None
        return b"503 Service Unavailable\r\nretry-after: 5"

    def _refuse(self, status: bytes) -> None:
        """Respond with a status after the responses to complete requests, and close."""
        REFUSALS[status[:3].decode()] += 1
        if self._is_complete():
            self._refused, self._pending = status, 0
            self._cancel_deadline()
            self._set_deadline()
        elif not self._is_answering() or not self.cycle.response_started:
            self._respond_and_close(status)
        else:
            self.transport.close()

    def _respond_and_close(self, status: bytes) -> None:
        headers = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(headers % status)
        self.transport.close()
