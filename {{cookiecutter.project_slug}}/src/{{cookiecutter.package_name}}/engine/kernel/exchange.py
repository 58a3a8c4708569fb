"""One exchange: a request, its response, and the one outcome that both end in.

Sources: ASGI 3.0 HTTP specification; RFC 9112, section 9.6 (tear-down of a connection).
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .body import UNWANTED, RequestBody
from .drain import Drain
from .limits import StreamingSettings
from .problem import Problem

#: Seconds for which a refused body is read, for clients that write all of it before they read.
LINGER_SECONDS = 2.0
#: An ASGI extension of the engine's server: the message ends the connection without a response.
HANG_UP = "http.connection.close"
#: The media type of Server-Sent Events; the only one that an EventSource accepts.
EVENTS = "text/event-stream"
#: Close codes with which the server refuses frames (RFC 6455, section 7.4.1).
REFUSED_FRAMES = (1002, 1007, 1008, 1009)
#: The route of requests that no route takes, or one of several.
NO_ROUTE = "(none)"
_is_name = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_has_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
#: The messages that may end a response.
_BODY = {"http.response.body", "http.response.pathsend"}


class Outcome(StrEnum):
    """How an exchange ended; the same word in logs, metrics and tests."""

    COMPLETE = "complete"
    CLIENT_ABORT = "client_abort"
    SLOW_CLIENT = "slow_client"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    DRAINED = "drained"
    REJECTED = "rejected"

    @classmethod
    def of_status(cls, status: int) -> "Outcome":
        """Return the outcome of an exchange whose response was sent completely."""
        if status < 400:
            return cls.COMPLETE
        if status == HTTPStatus.REQUEST_TIMEOUT:
            return cls.TIMEOUT
        if status < 500 or status == HTTPStatus.SERVICE_UNAVAILABLE:
            return cls.REJECTED
        return cls.SERVER_ERROR


class StreamAborted(Exception):
    """A response that has begun cannot be finished; the server must abort the connection.

    `__cause__` is the reason. ASGI servers abort when the application raises; after a plain return
    some of them would end the response as if it were complete.
    """


class SlowClient(StreamAborted):
    """The client did not accept a message within the send timeout (seconds)."""


class ClientGone(ClientDisconnect, OSError):
    """The server accepts no more messages; an OSError, as the ASGI specification requires."""


class OpenResponse(Protocol):
    """A response in progress."""

    def sweep(self, now: float) -> None:
        """Check the deadlines; `now` is the time of the event loop."""

    def drain(self, retry_after: float) -> None:
        """End the response; the client may reconnect after `retry_after` seconds."""


class DetachedResponse(OpenResponse, Protocol):
    """A response that continues after its path operation has returned (`streams.push`)."""

    #: The `send` of the owner's middleware, if the response is sent through it.
    layers: Send | None

    async def run(self) -> None:
        """Return when the response has ended; raise ClientDisconnect when the client has left."""

    def expire(self) -> None:
        """End the response; the client must authenticate again."""

    def close(self) -> None:
        """Release the resources of the response."""


@dataclass(slots=True, eq=False)
class Exchange:
    """The state of one exchange; times are seconds on the monotonic clock."""

    scope: Scope
    drain: Drain
    #: The open streams of the application, by slot.
    streams: Counter[str]
    #: The templates of routes that the scope does not name, by the id of the endpoint.
    templates: Mapping[int, str]
    #: Defaults for the headers of the response.
    headers: Iterable[tuple[bytes, bytes]]
    _receive: Receive
    _send: Send
    request_id: str
    #: The limits of the module that admitted the request.
    limits: StreamingSettings
    #: The Content-Length of the request, None if it is unknown.
    declared: int | None
    body_complete: bool
    expects_continue: bool
    #: The header as it was received, None if it is not valid.
    traceparent: str | None = None
    #: The module that admitted the request.
    module: str = ""
    started_at: float = field(default_factory=time.monotonic)
    first_byte_at: float | None = None
    ended_at: float = 0.0
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    outcome: Outcome | None = None
    disconnected: bool = False
    #: Whether the response may begin before the request has ended.
    duplex: bool = False
    response_complete: bool = False
    #: Whether the response needs the guard; those of the engine do without.
    guarded: bool = True
    #: Whether a `RequestBody` reads the body, which has its own limits.
    has_reader: bool = False
    #: Whether the guard has received a message that the application has not.
    is_ahead: bool = False
    #: The stream slots that the exchange holds.
    admitted_to: list[str] = field(default_factory=list)
    #: A response that continues after the application has returned.
    channel: DetachedResponse | None = None
    #: The subprotocol of a WebSocket, if the application selects none.
    subprotocol: str | None = None
    #: Bytes of the Content-Length that are still to be sent; None without one.
    remaining: int | None = None
    #: The message that began the response, as the application sent it.
    started: Message | None = None
    #: The error that left the response incomplete, even if a middleware ends it as if it were
    #: complete.
    broken: BaseException | None = None
    #: The start of a success, held back until the request body has been read.
    _early: Message | None = None
    _body_read: asyncio.Event | None = None

    @property
    def method(self) -> str:
        return str(self.scope.get("method", "WEBSOCKET"))

    @property
    def route(self) -> str:
        """The route's template, such as `/files/{file_id}`: never an id, never a query."""
        path: str = getattr(self.scope.get("route"), "path", "")
        return path or self.templates.get(id(self.scope.get("endpoint")), NO_ROUTE)

    @property
    def trace_id(self) -> str | None:
        """The id of the request's trace (W3C Trace Context, section 3.2.2.3)."""
        return self.traceparent and self.traceparent[3:35]

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if ended and self.bytes_in < (self.declared or 0):
                # Some servers end a truncated body like a complete one.
                message = {"type": "http.disconnect"}
                self.disconnected = True
            else:
                self.body_complete = ended
        elif message["type"] == "websocket.receive":
            self.bytes_in += len(message.get("text") or message.get("bytes") or "")
        elif message["type"] != "websocket.connect" and not self.response_complete:
            self.disconnected = True
            if message.get("code") in REFUSED_FRAMES and self.outcome is None:
                self.outcome = Outcome.REJECTED
        if self._body_read is not None and self.body_complete:
            self._body_read.set()
        return message

    async def body_read(self) -> None:
        """Wait until another task has read the request body; forever if the client leaves."""
        if not self.body_complete:
            self._body_read = asyncio.Event()
            await self._body_read.wait()

    async def whole_body(self) -> None:
        """Read the rest of the body: a success confirms that all of it has arrived.

        Raises ClientDisconnect, or StreamAborted from a Problem (400, 408 or 413).
        """
        request, limit = Request(self.scope, self.receive), self.bytes_in + UNWANTED
        try:
            async for _ in RequestBody(request, limit):
                pass
        except Problem as problem:
            raise StreamAborted(self.request_id) from problem

    async def _end_of_request(self, message: Message) -> None:
        """Read the rest of the body before the last message of a success; begin the response.

        The source of a response in several messages may read the body itself.
        """
        is_success = self._early is not None or self.status < 300
        if is_success and not (message.get("more_body", False) or self.body_complete):
            await self.whole_body()
        if self._early is not None:
            start, self._early = self._start(self._early), None
            await self._send(start)

    async def send(self, message: Message) -> None:
        may_begin = self.body_complete or self.duplex
        if message["type"] == "http.response.start":
            self.started = message
            self._early = None  # The new response, such as an error, replaces it.
            if message["status"] < 300 and not may_begin:
                self._early = message
                return
            message = self._start(message)
        elif message["type"] in _BODY and (self._early is not None or not may_begin):
            await self._end_of_request(message)
        if message["type"] == "http.response.body":
            message = await self._body(message)
        elif message["type"].startswith("websocket."):
            message = self._websocket(message)
        elif message["type"] == "http.response.pathsend":  # The whole body, from FileResponse.
            await self._send(message)
            self.bytes_out, self.remaining = self.remaining or 0, 0
            self.response_complete = True
            return
        try:
            await self._send(message)
        except OSError as error:
            self.disconnected = True
            raise ClientGone from error

    async def send_part(self, message: Message) -> None:
        """Send a part of a body that has begun, neither the last one nor that of a HEAD."""
        size = len(message.get("body", b""))
        self.bytes_out += size
        if self.remaining is not None:
            self.remaining -= size
        try:
            await self._send(message)
        except OSError as error:
            self.disconnected = True
            raise ClientGone from error

    async def _body(self, message: Message) -> Message:
        size = len(message.get("body", b""))
        if self.method != "HEAD":
            self.bytes_out += size
        if self.remaining is not None:
            self.remaining -= size
        if not message.get("more_body", False):
            self.leave()
            if self._refuses_body():
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            self.response_complete = True
        return message

    def _websocket(self, message: Message) -> Message:
        match message["type"]:
            case "websocket.accept":
                chosen = message.get("subprotocol") or self.subprotocol
                return self._start({"status": 101, **message, "subprotocol": chosen})
            case "websocket.http.response.start":
                return self._start({"status": 101, **message})
            case "websocket.send":
                self.bytes_out += len(message.get("text") or message.get("bytes") or "")
            case "websocket.close":
                self.status = self.status or 403  # The server's response to a refused handshake.
                self.leave()
                self.response_complete = True
            case "websocket.http.response.body" if not message.get("more_body", False):
                self.response_complete = True
        return message

    def _start(self, message: Message) -> Message:
        check_start(message)
        self.status = message["status"]
        self.first_byte_at = time.monotonic()
        headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        fields = dict(headers)
        if b"content-encoding" in fields and b"accept-ranges" in fields:
            # A middleware has compressed a file, so its ranges, its digest and its strong validator
            # do not belong to this body (RFC 9110, section 8.8.1; RFC 9530, section 3).
            headers = [
                (name, b"W/" + value.removeprefix(b"W/") if name == b"etag" else value)
                for name, value in headers
                if name not in (b"accept-ranges", b"repr-digest")
            ]
        length = fields.get(b"content-length")
        self.remaining = None if length is None else int(length)
        # The headers of a 304 replace those of the cached response (RFC 9111, section 3.2).
        if message["type"] != "websocket.accept" and self.status != 304:
            headers += [each for each in self.headers if each[0] not in fields]
        if self._refuses_body() and b"connection" not in fields:
            # Otherwise the server would read all of the unwanted body.
            headers.append((b"connection", b"close"))
        return {**message, "headers": headers}

    def _refuses_body(self) -> bool:
        return self.status >= 300 and not self.body_complete and not self.disconnected

    async def _linger(self) -> None:
        """Read a refused body for a while: closing at once could destroy the response."""
        if self.drain.draining or (self.expects_continue and not self.bytes_in):
            return  # Without 100 (Continue) the client sends no body (RFC 9110, section 10.1.1).
        stop = self.bytes_in + UNWANTED
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.body_complete and not self.disconnected and self.bytes_in < stop:
                    await self.receive()

    def enter(self, module: str, limits: StreamingSettings, slots: list[str]) -> None:
        """Occupy stream slots of a module until the response has ended."""
        self.module, self.limits = module, limits
        self.streams.update(slots)
        self.admitted_to += slots

    def leave(self) -> None:
        """Release the slots, before the client receives the end of the response."""
        for slot in self.admitted_to:
            self.streams[slot] -= 1
            if not self.streams[slot]:
                del self.streams[slot]  # Otherwise every client would leave an entry.
        self.admitted_to.clear()

    def resolve(self, error: BaseException | None) -> Outcome:
        """Return the outcome of an exchange that has ended, possibly with an error."""
        if self.outcome:
            return self.outcome
        if isinstance(error, asyncio.CancelledError):
            return Outcome.DRAINED if self.drain.draining else Outcome.CLIENT_ABORT
        if isinstance(error, SlowClient):
            return Outcome.SLOW_CLIENT
        if isinstance(error, (ClientDisconnect, WebSocketDisconnect)):
            # A client that has received all bytes may leave before the last message.
            return Outcome.COMPLETE if self.remaining == 0 else Outcome.CLIENT_ABORT
        cause = error.__cause__ if isinstance(error, StreamAborted) else None
        if isinstance(cause, Problem) and cause.status_code in (408, 413):
            return Outcome.of_status(cause.status_code)  # Caused by the request body.
        if error is not None:
            return Outcome.SERVER_ERROR
        if self.disconnected and not self.response_complete:
            return Outcome.CLIENT_ABORT
        return Outcome.of_status(self.status)


def check_start(message: Message) -> None:
    """Raise RuntimeError for a status or a header that is malformed.

    Servers send them as they are, or fail when the response can no longer become an error. Sources:
    RFC 9110, sections 5.1 (names), 5.5 (values), 8.6 (Content-Length) and 15 (status codes).
    """
    if not 100 <= message.get("status", 200) <= 599:
        raise RuntimeError(f"The response has the status {message['status']}")
    for name, value in message.get("headers", ()):
        is_length = name == b"content-length"
        if not _is_name(name) or _has_control(value) or (is_length and not value.isdigit()):
            raise RuntimeError(f"The response has a malformed header: {name!r}: {value!r}")


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange of a request."""
    exchange: Exchange = scope["exchange"]
    return exchange
