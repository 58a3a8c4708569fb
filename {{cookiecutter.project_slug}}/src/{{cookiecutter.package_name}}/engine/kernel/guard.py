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

from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect
from starlette.types import Message

from .body import BoundedReceive
from .exchange import EVENTS, ClientGone, Outcome, SlowClient, StreamAborted, check_start
from .problem import Problem
from .work import CLEANUP_SECONDS, TURN, Guard

#: Seconds for which the headers of a response wait for its first item.
FIRST_ITEM = 0.2
#: Records of a failure around its document, by media type.
RECORDS = {
    "text/event-stream": ("event: error\ndata: ", "\n\n"),
    "application/jsonl": ('{"$error": ', "}\n"),
    "application/x-ndjson": ('{"$error": ', "}\n"),
}
#: The last event of a stream whose credential is not valid any more.
REAUTH = b"event: reauth\ndata: {}\n\n"
#: Headers of event streams: a proxy must neither store, transform nor buffer them.
OF_EVENTS = {b"cache-control": b"no-cache, no-transform", b"x-accel-buffering": b"no"}


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
        if self._is_flowing and message.get("more_body", False):
            # A response may have very many of these messages.
            await self._write(message)
            if self._farewell is not None:
                await self._say_goodbye()
            if self._sent_at - self._turn > TURN:
                await self._take_turn()
            if self.reason is not None or self.exchange.disconnected:
                await self._stop()
            return
        exchange, kind = self.exchange, message["type"]
        is_last = not message.get("more_body", False)
        has_ended = self.reason is not None or exchange.broken is not None
        if kind == "http.response.body" and has_ended:
            self._check_body(is_last)
        if not exchange.guarded:
            await exchange.send(message)
        elif kind == "http.response.body":
            await (self._send_last if is_last else self._send_part)(message)
        elif kind == "http.response.start":
            await (self._send_head if exchange.method == "HEAD" else self._hold)(message)
        else:
            await self._begin()
            self.close()
            await exchange.send(message)

    async def _hold(self, message: Message) -> None:
        """Keep the start until the first item; raise a Problem if too many streams are open."""
        if self._held is not None or message["status"] >= 400:
            self._check_start(message)
        self._held = None
        if not dict(message.get("headers", ())).get(b"content-length", b"").isdigit():
            # The next sweep opens the others: a timer would cost more than they do.
            self._cancel_timer()
            check_start(message)
            if message["status"] < 300 and message["status"] != 204:
                self.admit()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FIRST_ITEM, self._begin_late)
        self._held = message
        self.kernel.channels.add(self)

    async def _send_head(self, message: Message) -> None:
        """Respond to HEAD without waiting for the source, which may be endless."""
        await self.exchange.send(message)
        if b"content-length" not in dict(message.get("headers", ())):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FIRST_ITEM, self._begin_late)

    async def _end_head(self) -> None:
        """End a response to HEAD before its source."""
        self._cancel_timer()
        self.exchange.outcome = Outcome.of_status(self.exchange.status)
        await self._end_early()

    async def _end_early(self) -> None:
        self.ends_early = True
        await self.exchange.send(_part(b"", more=False))
        self.cut(ClientGone())

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
        self._is_flowing = False
        if self._held is not None:
            self.exchange.broken = None  # This response replaces the one that has failed.

    async def _send_part(self, message: Message) -> None:
        if self._timer is not None and self.exchange.method == "HEAD":
            await self._end_head()
            raise ClientGone
        if self._held is None or message.get("body"):
            await self._begin()
            self._open()
            await self._write(message)
            self._is_flowing = self.exchange.method != "HEAD"
            if self._farewell is not None:
                await self._say_goodbye()
        if self._clock() - self._turn > TURN:
            await self._take_turn()
        if self.reason is not None or self.exchange.disconnected:
            await self._stop()

    async def _stop(self) -> None:
        """Raise ClientGone, in a task other than that of the source after the source's cleanup."""
        if self.reason is not None and self.runner is not None:
            await asyncio.sleep(CLEANUP_SECONDS)  # `source_ended` cancels it.
        raise ClientGone

    async def _send_last(self, message: Message) -> None:
        is_waiting = self._timer is not None or self._is_open or not self.exchange.body_complete
        if self._held is not None and not is_waiting:
            held, self._held = self._held, None
            self._sends, self._sent_at = 1, self._clock()
            await self.exchange.send(held)
            await self.exchange.send(message)
            self.kernel.channels.discard(self)
            if self._is_open:
                self.close()
            return
        await self._begin()
        self._is_flowing = False
        if self.exchange.body_complete:
            await self._write(message)
            self.close()
        else:  # The exchange reads the rest of it now.
            self.close()
            await self.exchange.send(message)

    async def _write(self, message: Message) -> None:
        await self._send_watched(message)
        if self._media_type == EVENTS:
            self._tail = (self._tail + message.get("body", b"")[-4:])[-4:]

    def _begin_late(self) -> None:
        loop = asyncio.get_running_loop()
        if self.exchange.method == "HEAD":
            self._task = loop.create_task(self._end_head())
        else:
            self._beginning = loop.create_task(self._send_start())
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
        if self.kernel.drain.draining:  # It may have begun while the format was not known.
            self.drain(self.kernel.drain.retry_after())

    def _open(self) -> None:
        """Watch the client from now on."""
        if self._is_open:
            return
        self._is_open = True
        self._sent_at = self._turn = self._clock()
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
        super().expire(reason, grace)  # Also for a source that never ends its event.

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
        await self._end_early()

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
        self._is_open = self._is_flowing = False
        if self._ahead is not None and not self._ahead.done():
            self._ahead, self.exchange.is_ahead = None, False
        self._cancel_timer()
        super().close()


def _part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
