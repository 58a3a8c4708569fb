"""The guard keeps the promises of the engine's own streams for any response of an application.

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
import logging
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any

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
#: Records of a failure around its document, by media type.
RECORDS = {
    "text/event-stream": ("event: error\ndata: ", "\n\n"),
    "application/jsonl": ('{"$error": ', "}\n"),
    "application/x-ndjson": ('{"$error": ', "}\n"),
}
EVENTS = "text/event-stream"
#: The last event of a stream whose credential is not valid any more.
REAUTH = b"event: reauth\ndata: {}\n\n"
#: The arguments of Starlette's error for an error that has a handler, after the start.
ALREADY_STARTED = ("Caught handled exception, but response already started.",)
#: Headers of event streams: a proxy must neither store, transform nor buffer them.
OF_EVENTS = {b"cache-control": b"no-cache, no-transform", b"x-accel-buffering": b"no"}

logger = logging.getLogger(__name__)

#: The guard of the current request.
current: ContextVar["Guard"] = ContextVar("guard")


class Guard:
    """The work of the application for one request, which can be cancelled for a reason."""

    #: The digest of the key that has authenticated the request.
    credential = b""
    #: Why the guard has cancelled the work.
    reason: BaseException | None = None
    #: The task that waits for the next item of a source.
    runner: asyncio.Task[Any] | None = None
    #: A response of Starlette's, which skips its background task when it fails.
    response: StreamingResponse | None = None
    _watcher: asyncio.Task[None] | None = None
    _task: asyncio.Task[None] | None = None
    #: When the client last accepted a message, while messages are being sent.
    _busy_since: float | None = None
    _sends = 0
    _ended_at = _turn = 0.0
    #: When the work is cut off at the end of the drain.
    _cut_at: float | None = None

    def __init__(self, kernel: Kernel, exchange: Exchange) -> None:
        self.kernel = kernel
        self.exchange = exchange
        #: The generators of the response, which are closed after it.
        self.sources: list[AsyncGenerator[Any]] = []
        self._owner = asyncio.current_task()

    def cut(self, reason: BaseException) -> None:
        """Cancel the work, after the cleanup of a source: task groups would cancel its awaits."""
        if self.reason is None:
            self.reason = reason
            self._ended_at = asyncio.get_running_loop().time()
            self.cancel(self.runner or self._owner)

    def cancel(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel a task, but not the current one, in which the next send raises an error."""
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def source_ended(self) -> None:
        """Cancel the rest of the work, after the cleanup of the source."""
        self.runner = None
        if self.reason is not None:
            self.cancel(self._owner)

    async def _send_watched(self, message: Message) -> None:
        """Send a message within the send deadline; raise ClientGone after a cut."""
        clock = asyncio.get_running_loop().time
        if self.reason is not None:
            raise ClientGone
        self._sends += 1
        if self._busy_since is None:
            self._busy_since = clock()
        try:
            await self.exchange.send(message)
        finally:
            self._sends -= 1
            self._busy_since = clock() if self._sends else None

    async def _take_turn(self) -> None:
        """Let the event loop run: an application that never waits would keep it."""
        await asyncio.sleep(0)
        self._turn = asyncio.get_running_loop().time()

    def sweep(self, now: float) -> None:
        """Cut off a client that does not read."""
        limit = self.exchange.limits.send_timeout
        if self.reason is not None:
            if now - self._ended_at > CLEANUP_SECONDS:
                self.cancel(self._owner)
        elif self._busy_since is not None and now - self._busy_since > limit:
            self.cut(SlowClient(limit))
        elif self._cut_at is not None and now > self._cut_at:
            self.exchange.outcome = Outcome.DRAINED
            self.cut(StreamAborted(self.exchange.request_id))

    def drain(self, retry_after: float) -> None:
        """Cut the work at the end of the drain; granian would wait for it without a limit."""
        drain = self.kernel.drain
        self._cut_at = asyncio.get_running_loop().time() + drain.notice + drain.timeout

    def expire(self, reason: Problem, grace: float) -> None:
        """End the work, because its credential is not valid any more: after `grace` seconds."""
        if self.exchange.channel is not None:
            self.exchange.channel.expire()
        else:
            asyncio.get_running_loop().call_later(grace, self._cut_expired, reason)

    def _cut_expired(self, reason: Problem) -> None:
        if not self.exchange.ended_at:
            self.exchange.outcome = Outcome.REJECTED
            self.cut(reason)

    def cause_of(self, error: BaseException) -> BaseException:
        """Return the reason of the end, which libraries may have wrapped or hidden."""
        if self.reason is not None:
            while self._owner is not None and self._owner.cancelling():
                self._owner.uncancel()
            return self.reason
        if isinstance(error, asyncio.CancelledError):
            return error
        broken = self.exchange.broken
        if broken is not None and not isinstance(broken, asyncio.CancelledError):
            error = broken
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error.args == ALREADY_STARTED and error.__cause__ is not None:
            return error.__cause__  # Starlette does not know that the start is held.
        hidden = None if error.__suppress_context__ else error.__context__
        if isinstance(error, ClientDisconnect) and isinstance(hidden, OSError):
            return hidden  # Starlette takes every OSError for that of `send`.
        return error

    async def report(self, error: BaseException) -> None:
        """Send the record of a failure, if the response has begun and its format has one."""

    def close(self) -> None:
        """Stop watching; the work may continue, such as background tasks."""
        self.kernel.channels.discard(self)
        for task in (self._watcher, self._task):
            self.cancel(task)

    async def end(self) -> None:
        """Close the generators now, not at garbage collection: they may hold resources."""
        self.close()
        for source in reversed(self.sources):
            try:
                async with asyncio.timeout(CLEANUP_SECONDS):
                    await source.aclose()
            except Exception:
                logger.exception("A generator failed to close")
        self.sources.clear()

    async def run_background(self) -> None:
        """Run the background task of a response that has not ended."""
        if self.response is not None and self.response.background is not None:
            await self.response.background()


class ResponseGuard(Guard):
    """The `receive` and `send` of an HTTP request."""

    #: The start of the response, while it waits for the first item.
    _held: Message | None = None
    _timer: asyncio.TimerHandle | None = None
    _beginning: asyncio.Task[None] | None = None
    _is_open = False
    _media_type = ""
    #: The last bytes of the body, which show whether an event is complete.
    _tail = b""
    #: The last record, and the outcome of a stream that ends with it.
    _farewell: tuple[bytes, Outcome] | None = None
    _sent_at = 0.0
    _reader: BoundedReceive | None = None
    #: A message of the request body that was received before the application asked for it.
    _ahead: asyncio.Future[Message] | None = None
    #: Whether the application waits for a message.
    _is_read = False
    #: Why the request body was not read, even if a library has replaced the error.
    _refusal: Problem | None = None

    async def receive(self) -> Message:
        """Receive a message for the application; raise Problem 408 or 413 for a request body."""
        if not self._is_open and self.exchange.has_reader:
            return await self.exchange.receive()
        self._is_read = True
        try:
            if self._ahead is None:
                message = await self._next()
            else:
                message = await asyncio.shield(self._ahead)
                self._ahead, self.exchange.is_ahead = None, False
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
            self._reader = self._new_reader()
        try:
            return await self._reader.message()
        except Problem as problem:
            self._refusal = problem
            raise

    def _new_reader(self) -> BoundedReceive:
        exchange = self.exchange
        scope, limits = exchange.scope, exchange.limits
        limit: int | None = scope.get(MAX_BODY_SIZE_SCOPE_KEY, self.kernel.max_body)
        if limit is None:
            kind = dict(scope["headers"]).get(b"content-type", b"").lower()
            limit = limits.max_form if kind.startswith(b"multipart/") else limits.max_body
        return BoundedReceive(exchange.receive, limits, exchange.declared, limit)

    async def send(self, message: Message) -> None:
        """Send a message of the application; raise ClientGone after the end of the response."""
        exchange, kind = self.exchange, message["type"]
        if kind == "http.response.start" and exchange.guarded and exchange.method != "HEAD":
            if self._held is not None or message["status"] >= 400:
                self._check_start(message)
            self._held = message
            self.kernel.channels.add(self)
            if b"content-length" not in dict(message.get("headers", ())):
                # The next sweep opens the others: a timer would cost more than they do.
                self._cancel_timer()
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(FIRST_ITEM, self._begin_late)
            return
        if kind == "http.response.body":
            is_last = not message.get("more_body", False)
            if self.reason is not None or exchange.broken is not None:
                self._check_body(is_last)
            is_waiting = self._timer is not None or self._is_open or not exchange.body_complete
            if self._held is not None and is_last and not is_waiting:
                held, self._held = self._held, None
                self._busy_since = asyncio.get_running_loop().time()
                await exchange.send(held)
                await exchange.send(message)
                self.kernel.channels.discard(self)
                if self._is_open:
                    self.close()
                return
            if exchange.guarded:
                await (self._send_last if is_last else self._send_part)(message)
                return
        elif exchange.guarded:
            await self._begin()
            self.close()
        await exchange.send(message)

    def _check_body(self, is_last: bool) -> None:
        """Raise the reason why the response has ended."""
        broken = self.exchange.broken
        if self.reason is not None:
            raise ClientGone
        if is_last and isinstance(broken, asyncio.CancelledError):
            raise StreamAborted(self.exchange.request_id) from broken
        if is_last and broken is not None:
            raise broken

    def _check_start(self, message: Message) -> None:
        """Raise the refusal of a request body, if the response is the result of it."""
        status = message["status"]
        if self._refusal is not None and status >= 400 and status != self._refusal.status_code:
            raise self._refusal  # Middleware turns it into a group of errors, and FastAPI into 400.
        kind = dict(message.get("headers", ())).get(b"content-type", b"")
        is_text = kind.startswith(b"text/plain")
        if status == 413 and is_text and MAX_BODY_SIZE_SCOPE_KEY in self.exchange.scope:
            # FastAPI's own limit of a route, which responds without an exception.
            self._refusal = self._new_reader().too_large()
            raise self._refusal
        if self._held is not None:
            self.exchange.broken = None  # This response replaces the one that has failed.

    async def _send_part(self, message: Message) -> None:
        if self._held is None or message.get("body"):
            await self._begin()
            self._open()
            await self._write(message)
            if self._farewell is not None:
                await self._say_goodbye()
        if asyncio.get_running_loop().time() - self._turn > TURN:
            await self._take_turn()
        if self.reason is not None:
            if self.runner is not None:
                await asyncio.sleep(CLEANUP_SECONDS)  # `source_ended` cancels it.
            raise ClientGone
        if self.exchange.disconnected:
            raise ClientGone

    async def _send_last(self, message: Message) -> None:
        await self._begin()
        if self.exchange.body_complete:
            await self._write(message)
            self.close()
        else:  # The exchange reads the rest of it now.
            self.close()
            await self.exchange.send(message)

    async def _write(self, message: Message) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        await self._send_watched(message)
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
        else:
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
        self._is_open = True
        self._sent_at = self._turn = asyncio.get_running_loop().time()
        self.kernel.channels.add(self)
        if not self._is_read:
            self._watch()
        if self.kernel.drain.draining:
            self.drain(self.kernel.drain.retry_after())

    def _watch(self) -> None:
        loop, exchange = asyncio.get_running_loop(), self.exchange
        if not (exchange.body_complete or exchange.disconnected):
            self._ahead, exchange.is_ahead = loop.create_future(), True
        self._watcher = loop.create_task(self._listen(self._ahead))

    async def _listen(self, ahead: asyncio.Future[Message] | None) -> None:
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
            self.cut(ClientDisconnect())
        elif exchange.disconnected:
            self.cut(ClientDisconnect())

    def sweep(self, now: float) -> None:
        """Cut off a client that does not read; keep a silent event stream alive."""
        self._open()
        super().sweep(now)
        if self._is_idle() and now - self._sent_at >= self.exchange.limits.heartbeat:
            self._task = asyncio.get_running_loop().create_task(self._send_comment())

    def drain(self, retry_after: float) -> None:
        """End an event stream after its current event, others at the end of the drain."""
        super().drain(retry_after)
        if self._media_type == EVENTS:
            self._end_with(f"retry: {retry_after * 1000:.0f}\n\n".encode(), Outcome.DRAINED)

    def expire(self, reason: Problem, grace: float) -> None:
        """End an event stream after its current event, others after the grace period."""
        if self._media_type == EVENTS:
            self._end_with(REAUTH, Outcome.REJECTED)
        else:
            super().expire(reason, grace)

    def _end_with(self, record: bytes, outcome: Outcome) -> None:
        self._farewell = record, outcome
        if self._is_idle():
            self._task = asyncio.get_running_loop().create_task(self._say_goodbye())

    def _is_idle(self) -> bool:
        """Return whether an event stream is between two events, and nothing is being sent."""
        ends = (b"\n\n", b"\r\n\r\n", b"\r\r")
        is_between = not self._tail or self._tail.endswith(ends)
        is_idle = self.reason is None and not self._sends
        return is_idle and is_between and self._media_type == EVENTS

    async def _send_comment(self) -> None:
        if self._is_idle():  # The application may have run before this task.
            await self._write(_part(b":\n\n"))

    async def _say_goodbye(self) -> None:
        if self._farewell is None or not self._is_idle():
            return
        (record, outcome), self._farewell = self._farewell, None
        await self._write(_part(record))
        self.exchange.outcome = outcome
        await self.exchange.send(_part(b"", more=False))
        self.cut(ClientGone())

    async def report(self, error: BaseException) -> None:
        """Send the record of a failure, if the response has begun and its format has one."""
        record = RECORDS.get(self._media_type)
        exchange = self.exchange
        if record is None or not exchange.status or exchange.response_complete:
            return
        document = json.dumps(self.kernel.describe(Problem.of(error), exchange))
        try:
            async with asyncio.timeout(exchange.limits.send_timeout):
                await exchange.send(_part(document.join(record).encode()))
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
        self._is_open = False
        if self._ahead is not None and not self._ahead.done():
            self._ahead, self.exchange.is_ahead = None, False
        self._cancel_timer()
        super().close()


def _part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
