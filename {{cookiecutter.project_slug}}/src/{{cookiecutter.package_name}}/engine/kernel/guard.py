"""The guard: what the engine's own streams promise, for the responses of any path operation.

`StreamingResponse` and FastAPI's generators send the headers before the first item, so that an
early failure is a truncated 200. They wait forever for a client that does not read, and notice a
client that has left at their next item. A middleware, or FastAPI itself, may end a failed stream as
if it were complete. The guard is the `send` of the outermost middleware, so it sees all of them.

* The headers wait for the first item, for at most FIRST_ITEM seconds.
* A failure before them becomes a response with its status. A later one aborts the connection, after
  a record with the problem in the formats that have one.
* A client that leaves, or does not read, cancels the work at once.
* An event stream stays alive with comments, and ends cleanly when the service shuts down.

Sources: ASGI 3.0 HTTP specification; WHATWG HTML, section 9.2 (server-sent events).
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextvars import ContextVar

from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message

from .body import BoundedReceive
from .exchange import ClientGone, Exchange, Outcome, SlowClient, StreamAborted
from .kernel import Kernel
from .problem import Problem

#: Seconds for which the headers of a response wait for its first item.
FIRST_ITEM = 0.2
#: Seconds after which a response that never waits lets the event loop run.
TURN = 0.01
#: Seconds that the work for a response may take to clean up.
CLEANUP_SECONDS = 5.0
#: Records of a failure, by media type.
RECORDS = {
    "text/event-stream": "event: error\ndata: {}\n\n",
    "application/jsonl": '{{"$error": {}}}\n',
    "application/x-ndjson": '{{"$error": {}}}\n',
}
EVENTS = "text/event-stream"
#: Headers of event streams: a proxy must neither store, transform nor buffer them.
OF_EVENTS = {b"cache-control": b"no-cache, no-transform", b"x-accel-buffering": b"no"}

#: The guard of the current request.
current: ContextVar["Guard"] = ContextVar("guard")


class Guard:
    """The work of the application for one request, which can be cancelled for a reason."""

    __slots__ = (
        "_busy_since", "_cut_at", "_ended_at", "_owner", "_task", "_watcher", "exchange", "kernel",
        "reason", "response", "sources", "worker",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, exchange: Exchange) -> None:
        self.kernel = kernel
        self.exchange = exchange
        #: Why the guard has cancelled the work.
        self.reason: BaseException | None = None
        #: The generators of the response, which are closed after it.
        self.sources: list[AsyncGenerator[object]] = []
        #: A response of Starlette's, which skips its background task when it fails.
        self.response: StreamingResponse | None = None
        self._owner = asyncio.current_task()
        #: The task that runs the source, which may be another one.
        self.worker = self._owner
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        #: When the current send began.
        self._busy_since: float | None = None
        self._ended_at = 0.0
        #: When the work is cut off at the end of the drain.
        self._cut_at: float | None = None

    def cut(self, reason: BaseException) -> None:
        """Cancel the work."""
        if self.reason is None and self._owner is not None:
            self.reason = reason
            self._ended_at = asyncio.get_running_loop().time()
            if self.worker in (None, self._owner):
                self._owner.cancel()
            else:
                # Its task group would cancel it repeatedly, and cut off its clean-up.
                self.worker.cancel()
                self.worker.add_done_callback(self._cancel_owner)

    def _cancel_owner(self, _: object) -> None:
        if self in self.kernel.channels and self._owner is not None:
            self._owner.cancel()

    def sweep(self, now: float) -> None:
        """Cut off a client that does not read."""
        limit = self.exchange.limits.send_timeout
        if self.reason is not None:
            if now - self._ended_at > CLEANUP_SECONDS and self._owner is not None:
                self._owner.cancel()
        elif self._busy_since is not None and now - self._busy_since > limit:
            self.cut(SlowClient(limit))
        elif self._cut_at is not None and now > self._cut_at:
            self.exchange.outcome = Outcome.DRAINED
            self.cut(StreamAborted(self.exchange.request_id))

    def drain(self, retry_after: float) -> None:
        """Cut the work at the end of the drain; granian would wait for it without a limit."""
        drain = self.kernel.drain
        self._cut_at = asyncio.get_running_loop().time() + drain.notice + drain.timeout

    def cause_of(self, error: BaseException) -> BaseException:
        """Return the reason of the end of the work, which libraries may have wrapped or hidden."""
        if self.reason is not None:
            while self._owner is not None and self._owner.cancelling():
                self._owner.uncancel()
            return self.reason
        if isinstance(error, asyncio.CancelledError):
            return error
        if self.exchange.broken is not None:
            return self.exchange.broken
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, ClientDisconnect) and isinstance(error.__context__, OSError):
            return error.__context__  # Starlette takes every OSError for that of `send`.
        return error

    async def report(self, error: BaseException) -> None:
        """Send the record of a failure, if the response has begun and its format has one."""

    def close(self) -> None:
        """Stop watching; the work may continue, such as background tasks."""
        self.kernel.channels.discard(self)
        for task in (self._watcher, self._task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    async def close_sources(self) -> None:
        """Close the generators now, not at garbage collection: they may hold resources."""
        for source in reversed(self.sources):
            async with asyncio.timeout(CLEANUP_SECONDS):
                await source.aclose()
        self.sources.clear()

    async def run_background(self) -> None:
        """Run the background task of a response that has not ended."""
        response = self.response
        if response and response.background and not self.exchange.response_complete:
            await response.background()


class ResponseGuard(Guard):
    """The `receive` and `send` of an HTTP request."""

    __slots__ = (
        "_ahead", "_beginning", "_farewell", "_held", "_is_open", "_is_read", "_media_type",
        "_reader", "_refusal", "_sent_at", "_tail", "_timer", "_turn",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, exchange: Exchange) -> None:
        super().__init__(kernel, exchange)
        #: The start of the response, while it waits for the first item.
        self._held: Message | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._is_open = False
        self._media_type = ""
        #: The last bytes of the body, which show whether an event is complete.
        self._tail = b""
        self._farewell: bytes | None = None
        self._sent_at = self._turn = 0.0
        self._reader: BoundedReceive | None = None
        #: A message of the request body that was received before the application asked for it.
        self._ahead: asyncio.Future[Message] | None = None
        #: Whether the application waits for a message.
        self._is_read = False
        #: Why the request body was not read, even if a library has replaced the error.
        self._refusal: Problem | None = None

    async def receive(self) -> Message:
        """Receive a message for the application; raise Problem 408 or 413 for a request body."""
        self._is_read = True
        try:
            if self._ahead is None:
                message = await self._next()
            else:
                message = await asyncio.shield(self._ahead)
                self._ahead = None
        finally:
            self._is_read = False
        if self._is_open and (self._watcher is None or self._watcher.done()):
            self._watch()
        return message

    async def _next(self) -> Message:
        exchange = self.exchange
        if exchange.body_complete or exchange.has_reader:
            return await exchange.receive()
        if self._reader is None:
            self._reader = BoundedReceive(exchange.receive, exchange, self._limit())
        try:
            return await self._reader.message()
        except Problem as problem:
            self._refusal = problem
            raise

    def _limit(self) -> int:
        scope, limits = self.exchange.scope, self.exchange.limits
        own: int | None = scope.get(MAX_BODY_SIZE_SCOPE_KEY, self.kernel.max_body)
        if own is not None:
            return own
        kind = dict(scope["headers"]).get(b"content-type", b"").lower()
        return limits.max_form if kind.startswith(b"multipart/") else limits.max_body

    async def send(self, message: Message) -> None:
        """Send a message of the application; raise ClientGone after the end of the response."""
        exchange = self.exchange
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body", False) and exchange.broken is not None:
                raise exchange.broken
            if exchange.guarded:
                await self._send_body(message)
                return
        elif kind == "http.response.start" and exchange.guarded and exchange.method != "HEAD":
            self._hold(message)
            return
        elif exchange.guarded:
            await self._begin()
        await exchange.send(message)

    def _hold(self, message: Message) -> None:
        headers = dict(message.get("headers", ()))
        status = message["status"]
        if self._refusal is not None and status >= 400 and status != self._refusal.status_code:
            raise self._refusal  # Middleware turns it into a group of errors, and FastAPI into 400.
        is_text = headers.get(b"content-type", b"").startswith(b"text/plain")
        if status == 413 and is_text and MAX_BODY_SIZE_SCOPE_KEY in self.exchange.scope:
            # FastAPI's own limit of a route, which responds without an exception.
            reader = BoundedReceive(self.receive, self.exchange, self._limit())
            self._refusal = reader.too_large()
            raise self._refusal
        self._held = message
        if b"content-length" not in headers:
            loop = asyncio.get_running_loop()
            self._cancel_timer()
            self._timer = loop.call_later(FIRST_ITEM, self._begin_late)

    async def _send_body(self, message: Message) -> None:
        body, loop = message.get("body", b""), asyncio.get_running_loop()
        if not message.get("more_body", False):
            await self._begin()
            if self.exchange.body_complete:  # Otherwise the exchange reads the rest of it now.
                self.kernel.channels.add(self)
                await self._write(message)
                self.close()
            else:
                self.close()
                await self.exchange.send(message)
            return
        if self._held is not None and not body:
            return
        await self._begin()
        self._open()
        await self._write(message)
        if self._farewell is not None:
            await self._say_goodbye()
        elif loop.time() - self._turn > TURN:
            await asyncio.sleep(0)
            self._turn = loop.time()
        if self.exchange.disconnected:
            raise ClientGone

    async def _write(self, message: Message) -> None:
        clock = asyncio.get_running_loop().time
        if self.reason is not None:
            raise ClientGone
        self._sent_at = self._busy_since = clock()
        try:
            await self.exchange.send(message)
        finally:
            self._busy_since = None
        if self._media_type == EVENTS:
            self._tail = (self._tail + message.get("body", b"")[-4:])[-4:]

    def _begin_late(self) -> None:
        self._beginning = asyncio.get_running_loop().create_task(self._send_start())
        self._open()

    async def _begin(self) -> None:
        """Send the start of the response, if it is still held."""
        self._cancel_timer()
        if self._beginning is not None:
            await self._beginning
            self._beginning = None
        elif self._held is not None:
            await self._send_start()

    async def _send_start(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        headers = list(held.get("headers", ()))
        names = dict(headers)
        content_type = names.get(b"content-type", b"").decode("latin-1")
        # The records of the guard cannot be inserted into a compressed body.
        if b"content-encoding" not in names:
            self._media_type = content_type.partition(";")[0].strip().lower()
        if self._media_type == EVENTS:
            headers += [each for each in OF_EVENTS.items() if each[0] not in names]
            held = {**held, "headers": headers}
        await self.exchange.send(held)

    def _open(self) -> None:
        """Watch the client from now on."""
        if self._is_open:
            return
        loop = asyncio.get_running_loop()
        self._is_open = True
        self._sent_at = self._turn = loop.time()
        self.kernel.channels.add(self)
        if not self._is_read:
            self._watch()
        if self.kernel.drain.draining:
            self.drain(self.kernel.drain.retry_after())

    def _watch(self) -> None:
        loop, exchange = asyncio.get_running_loop(), self.exchange
        if not (exchange.body_complete or exchange.disconnected):
            self._ahead = loop.create_future()
        self._watcher = loop.create_task(self._listen(self._ahead))

    async def _listen(self, ahead: "asyncio.Future[Message] | None") -> None:
        """Wait for the disconnect, for which one message of the body is received ahead."""
        exchange = self.exchange
        if ahead is not None:
            try:
                ahead.set_result(await self._next())
            except Problem as problem:
                ahead.set_exception(problem)
                ahead.exception()  # The application may never ask for it.
        if exchange.body_complete:
            while (await exchange.receive())["type"] != "http.disconnect":
                pass
        if exchange.disconnected:
            self.cut(ClientDisconnect())

    def sweep(self, now: float) -> None:
        """Cut off a client that does not read; keep a silent event stream alive."""
        super().sweep(now)
        is_idle = self.reason is None and self._busy_since is None and self._is_between_events()
        if is_idle and now - self._sent_at >= self.exchange.limits.heartbeat:
            self._insert(b":\n\n")

    def drain(self, retry_after: float) -> None:
        """End an event stream after its current event, others at the end of the drain."""
        super().drain(retry_after)
        if self._media_type == EVENTS:
            self._farewell = f"retry: {retry_after * 1000:.0f}\n\n".encode()
            if self._busy_since is None and self._is_between_events():
                self._task = asyncio.get_running_loop().create_task(self._say_goodbye())

    def _is_between_events(self) -> bool:
        ends = (b"\n\n", b"\r\n\r\n", b"\r\r")
        return self._media_type == EVENTS and (not self._tail or self._tail.endswith(ends))

    def _insert(self, body: bytes) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": True}
        self._task = asyncio.get_running_loop().create_task(self._write(message))

    async def _say_goodbye(self) -> None:
        farewell, self._farewell = self._farewell, None
        if farewell is None or not self._is_between_events():
            self._farewell = farewell
            return
        await self._write({"type": "http.response.body", "body": farewell, "more_body": True})
        self.exchange.outcome = Outcome.DRAINED
        self.cut(ClientGone())
        await self.exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def report(self, error: BaseException) -> None:
        """Send the record of a failure, if the response has begun and its format has one."""
        record = RECORDS.get(self._media_type)
        exchange = self.exchange
        if record is None or not exchange.status or exchange.response_complete:
            return
        document = json.dumps(self.kernel.describe(Problem.of(error), exchange))
        body = record.format(document).encode()
        try:
            async with asyncio.timeout(exchange.limits.send_timeout):
                message = {"type": "http.response.body", "body": body, "more_body": True}
                await exchange.send(message)
        except TimeoutError:
            raise SlowClient(exchange.limits.send_timeout) from None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cause_of(self, error: BaseException) -> BaseException:
        cause = super().cause_of(error)
        is_hidden = self.reason is None and not isinstance(error, asyncio.CancelledError)
        if self._refusal is None or not is_hidden:
            return cause
        if not self.exchange.status:
            return self._refusal
        aborted = StreamAborted(self.exchange.request_id)
        aborted.__cause__ = self._refusal
        return aborted

    def close(self) -> None:
        self._cancel_timer()
        super().close()
