"""One HTTP exchange: a request, its response, and the one outcome that both end in.

Sources: ASGI 3.0 HTTP specification; RFC 9112, section 9.6 (tear-down of a connection).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .body import UNWANTED, RequestBody
from .drain import Drain
from .extensions import DIRECT, HANG_UP, ZERO_COPY, DirectWriter
from .limits import StreamingSettings
from .outcomes import ClientGone, Outcome, SlowClient, StreamAborted
from .problem import Problem

#: A refused body is read on for this long, for clients that write all of it before they read.
LINGER_SECONDS = 2.0
#: The messages with which a response may end.
_BODY = {"http.response.body", "http.response.pathsend"}


class OpenResponse(Protocol):
    """A response that goes on when its path operation has returned (`streams.push`)."""

    #: The `send` of the middleware between it and the server, if it goes through that.
    layers: Send | None

    async def run(self) -> None:
        """Return when the response has ended; raise ClientDisconnect when the client has left."""

    def sweep(self, now: float) -> None:
        """Check its deadlines; `now` is the time of the event loop."""

    def drain(self, retry_after: float) -> None:
        """End the response; the client may reconnect after so many seconds."""

    def close(self) -> None:
        """Release what it holds."""


@dataclass(slots=True, eq=False)
class Exchange:
    """What the kernel knows of one exchange; times are seconds on the monotonic clock."""

    scope: Scope
    #: Whether the process is shutting down.
    drain: Drain
    #: The open streams of the application, by slot.
    streams: Counter[str]
    #: Header fields of every response, unless it has its own.
    headers: Iterable[tuple[bytes, bytes]]
    _receive: Receive
    _send: Send
    request_id: str
    #: The limits of the module that it was admitted to.
    limits: StreamingSettings
    #: The bytes of the body, if the client has said how many they will be.
    declared: int | None
    body_complete: bool
    expects_continue: bool
    #: As it came, where it is well-formed.
    traceparent: str | None = None
    #: The module that it was admitted to.
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
    #: The stream slots that it takes.
    admitted_to: list[str] = field(default_factory=list)
    #: What stays open when the application has returned.
    channel: OpenResponse | None = None
    #: Bytes of the declared Content-Length that are still to be sent; None without one.
    remaining: int | None = None
    #: The message that began the response, as the application sent it.
    started: Message | None = None
    #: Why the response stays incomplete, whatever a middleware makes of that.
    broken: BaseException | None = None
    #: The head of a success, which waits until it is known who reads the rest of the request.
    _early: Message | None = None
    _body_read: asyncio.Event | None = None

    @property
    def method(self) -> str:
        return str(self.scope.get("method", "WEBSOCKET"))

    @property
    def route(self) -> str:
        """The route's template, such as `/files/{file_id}`: never an id, never a query."""
        return getattr(self.scope.get("route"), "path", "") or "(none)"

    @property
    def trace_id(self) -> str | None:
        """The trace that the request belongs to (W3C Trace Context, section 3.2.2.3)."""
        return self.traceparent and self.traceparent[3:35]

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if ended and self.bytes_in < (self.declared or 0):
                # Whatever the server makes of it: half of a body is not all there is.
                message = {"type": "http.disconnect"}
                self.disconnected = True
            else:
                self.body_complete = ended
        elif message["type"] == "websocket.receive":
            self.bytes_in += len(message.get("text") or message.get("bytes") or "")
        elif message["type"] != "websocket.connect" and not self.response_complete:
            self.disconnected = True
        if self._body_read is not None and self.body_complete:
            self._body_read.set()
        return message

    async def body_read(self) -> None:
        """Wait until somebody else has read the request body; for ever, when the client leaves."""
        if not self.body_complete:
            self._body_read = asyncio.Event()
            await self._body_read.wait()

    async def whole_body(self) -> None:
        """Read what nobody has read of the body: a success says that all of it has arrived.

        Raises ClientDisconnect, or StreamAborted because of a Problem (400, 408 or 413).
        """
        request, limit = Request(self.scope, self.receive), self.bytes_in + UNWANTED
        try:
            async for _ in RequestBody(request, limit):
                pass
        except Problem as problem:
            raise StreamAborted(self.request_id) from problem

    async def _end_of_request(self, message: Message) -> None:
        """Read what is left of the body before the last message of a success; begin the response.

        Of a response in several messages the source may read the body itself.
        """
        is_success = self._early is not None or self.status < 300
        if is_success and not (message.get("more_body", False) or self.body_complete):
            await self.whole_body()
        if self._early is not None:
            head, self._early = self._start(self._early), None
            await self._send(head)

    async def send(self, message: Message) -> None:
        may_begin = self.body_complete or self.duplex
        if message["type"] == "http.response.start":
            self.started = message
            self._early = None  # Its request was no good: this is sent in its place.
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
        elif message["type"] == "http.response.pathsend":  # A FileResponse: all of the body.
            await self._send(message)
            self.bytes_out, self.remaining = self.remaining or 0, 0
            self.response_complete = True
            return
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
            if self.broken is not None:
                raise self.broken
            self.leave()
            if self._refuses_body():
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            self.response_complete = True
        return message

    def takes_files(self, length: str | None) -> bool:
        """Whether the server takes parts of files, and has been told of our body of `length` bytes;
        if not, some middleware holds the headers back, or has announced another body.
        """
        offer = (self.scope.get("extensions") or {}).get(ZERO_COPY) or {}
        return str(offer.get("announced")) == length

    async def send_file(self, part: Message) -> None:
        """Send a message of the extension ZERO_COPY, with more to come."""
        await self._send({"type": ZERO_COPY, **part, "more_body": True})
        self.bytes_out += part["count"]
        self.remaining = (self.remaining or 0) - part["count"]

    async def hang_up(self, outcome: Outcome) -> None:
        """End the connection without a response and raise ClientDisconnect, if the server can.

        For clients that come back when their connection breaks, and give up at most responses.
        """
        self.outcome = outcome
        if HANG_UP in (self.scope.get("extensions") or {}):
            await self._send({"type": HANG_UP})
            raise ClientDisconnect

    def direct_writer(self) -> DirectWriter | None:
        """Return what writes to the client at once, if the server has it and nobody is between."""
        offer = (self.scope.get("extensions") or {}).get(DIRECT) or {}
        writer: DirectWriter | None = offer.get("writer")
        return writer

    async def push(self, body: bytes, more: bool = True) -> None:
        """Send a body message past every middleware: one call per event and subscriber."""
        self.bytes_out += len(body)
        self.response_complete = not more
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _websocket(self, message: Message) -> Message:
        match message["type"]:
            case "websocket.accept" | "websocket.http.response.start":
                return self._start({"status": 101, **message})
            case "websocket.send":
                self.bytes_out += len(message.get("text") or message.get("bytes") or "")
            case "websocket.close":
                self.status = self.status or 403  # What a refused handshake is answered with.
                self.leave()
                self.response_complete = True
            case "websocket.http.response.body" if not message.get("more_body", False):
                self.response_complete = True
        return message

    def _start(self, message: Message) -> Message:
        self.status = message["status"]
        self.first_byte_at = time.monotonic()
        headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        fields = dict(headers)
        length = fields.get(b"content-length")
        self.remaining = None if length is None else int(length)
        # Those of a 304 would take the place of what the client has kept (RFC 9111, section 3.2).
        if message["type"] != "websocket.accept" and self.status != 304:
            headers += [each for each in self.headers if each[0] not in fields]
        if self._refuses_body() and b"connection" not in fields:
            # The rest of the body is not wanted: without this the server would swallow all of it.
            headers.append((b"connection", b"close"))
        return {**message, "headers": headers, DIRECT: True}

    def _refuses_body(self) -> bool:
        return self.status >= 300 and not self.body_complete and not self.disconnected

    async def _linger(self) -> None:
        if self.drain.draining:
            return
        if self.expects_continue and not self.bytes_in:
            return  # The client waits for our word before it sends (RFC 9110, section 10.1.1).
        stop = self.bytes_in + UNWANTED
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.body_complete and not self.disconnected and self.bytes_in < stop:
                    await self.receive()
        except TimeoutError:
            pass

    def enter(self, module: str, limits: StreamingSettings, slots: list[str]) -> None:
        """Take stream slots of a module, until the response has ended."""
        self.module, self.limits = module, limits
        self.streams.update(slots)
        self.admitted_to += slots

    def leave(self) -> None:
        """Give back the slots, before the client can know that it may come again."""
        for slot in self.admitted_to:
            self.streams[slot] -= 1
            if not self.streams[slot]:
                del self.streams[slot]  # Clients come and go.
        self.admitted_to.clear()

    def resolve(self, error: BaseException | None) -> Outcome:
        """Name the outcome of an exchange that nobody named while it ran."""
        if self.outcome:
            return self.outcome
        if isinstance(error, asyncio.CancelledError):
            return Outcome.DRAINED if self.drain.draining else Outcome.CLIENT_ABORT
        if isinstance(error, SlowClient):
            return Outcome.SLOW_CLIENT
        if isinstance(error, (ClientDisconnect, WebSocketDisconnect)):
            # One that has all the bytes it was promised may leave before we say that it was all.
            return Outcome.COMPLETE if self.remaining == 0 else Outcome.CLIENT_ABORT
        cause = error.__cause__ if isinstance(error, StreamAborted) else None
        if isinstance(cause, Problem) and cause.status_code in (408, 413):
            return Outcome.of_status(cause.status_code)  # The body's fault, in a duplex stream.
        if error is not None:
            return Outcome.SERVER_ERROR
        if self.disconnected and not self.response_complete:
            return Outcome.CLIENT_ABORT
        return Outcome.of_status(self.status)


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that the middleware opened for this request."""
    exchange: Exchange = scope["exchange"]
    return exchange
