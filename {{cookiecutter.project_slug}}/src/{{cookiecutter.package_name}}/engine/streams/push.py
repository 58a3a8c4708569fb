"""Push: a response that other tasks write to, for as long as the client stays.

A generator with a queue and a task per subscriber costs twenty times as much as the sends. Here the
response only waits for the client to leave. A publisher calls `Channel.wake`, and one sweeper per
process sends heartbeats and aborts the connections of clients that do not read.
"""

import asyncio
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from math import inf
from typing import Any, Protocol

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..kernel.exchange import Exchange, Outcome, SlowClient, StreamAborted, exchange_of
from ..kernel.kernel import kernel_of
from ..kernel.problem import Problem

#: An ASGI extension of the engine's server. If a response starts with a message that has this key,
#: and the message arrives unchanged, the extension's entry of the scope gets a `writer`.
DIRECT = "http.response.direct"
#: Bytes after which other channels get a turn: the missed events of one client could occupy the
#: loop.
SHARE = 64 << 10


class DirectWriter(Protocol):
    """Writes parts of a body to the client at once, without passing them through middleware."""

    def ready(self) -> bool: ...

    def write(self, body: bytes) -> None: ...

    async def send(self, body: bytes) -> None: ...


def direct_writer(scope: Scope) -> DirectWriter | None:
    """Return the writer of a response that has begun, if server and middleware permit it."""
    offer = (scope.get("extensions") or {}).get(DIRECT) or {}
    writer: DirectWriter | None = offer.get("writer")
    return writer


def _start(coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    if sys.version_info >= (3, 12):
        # A send that does not block is complete when this returns.
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.get_running_loop().create_task(coroutine)


class Channel(ABC):
    """The open response of one client; a subclass provides the content.

    The path operation has returned, and its resources are released, so a waiting client takes only
    the memory of its channel.
    """

    __slots__ = (
        "_busy", "_direct", "_error", "_last", "_owner", "_push_task", "_waits",
        "background", "ends_at", "exchange", "heartbeat_after", "layers", "wrote_at",
    )  # fmt: skip

    heartbeat: bytes

    def __init__(self, exchange: Exchange, heartbeat_after: float, max_age: float = inf) -> None:
        """Send `heartbeat` after `heartbeat_after` silent seconds, `farewell` after `max_age`."""
        now = asyncio.get_running_loop().time()
        self.exchange = exchange
        #: The `send` of the middleware between the channel and the server, if there is any.
        self.layers: Send | None = None
        #: Runs after the response, whatever the outcome.
        self.background: BackgroundTask | None = None
        self.heartbeat_after = heartbeat_after
        self.wrote_at = now
        self.ends_at = now + max_age
        self._owner = asyncio.current_task()
        self._push_task: asyncio.Task[None] | None = None
        self._direct: DirectWriter | None = None
        self._busy = False
        self._waits = b""
        self._last: tuple[bytes, Outcome] | None = None
        self._error: StreamAborted | None = None

    @abstractmethod
    def take(self) -> bytes:
        """Return the next bytes, which then count as sent; empty if there are none."""

    @abstractmethod
    def close(self) -> None:
        """Unsubscribe; nothing wakes the channel after that. May be called again."""

    @abstractmethod
    def farewell(self, retry_after: float) -> bytes:
        """Return the record that asks the client to reconnect in `retry_after` seconds."""

    def reauth(self) -> bytes:
        """Return the record that asks the client to authenticate again."""
        return b""

    @abstractmethod
    def failure(self, document: dict[str, Any]) -> bytes:
        """Return the record of the problem that ends the stream."""

    async def write(self, body: bytes) -> None:
        """Send a part of the body, such as `take` returns."""
        if self._direct is None:
            await self._forward({"type": "http.response.body", "body": body, "more_body": True})
        else:  # Not through the middleware, which might delay or reorder the parts.
            self.exchange.bytes_out += len(body)
            await self._direct.send(body)

    async def end(self) -> None:
        """End the response as a complete one."""
        await self._forward({"type": "http.response.body", "body": b"", "more_body": False})

    async def _forward(self, message: Message) -> None:
        await (self.layers or self.exchange.send)(message)

    async def listen(self) -> None:
        """Return when the client has left."""
        while (await self.exchange.receive())["type"] != "http.disconnect":
            pass

    def wake(self) -> None:
        """Send what `take` returns; to a slow client, as soon as it accepts more."""
        # Send nothing after a failure: a client that resumes after a later event would miss the
        # events that were lost.
        if not self._busy and self._error is None and not self.exchange.response_complete:
            self._busy = True
            if self._push_at_once():
                self._busy = False
            else:
                self.wrote_at = asyncio.get_running_loop().time()
                self._push_task = _start(self._push())

    def sweep(self, now: float) -> None:
        """Abort the connection of a client that does not read; keep a silent stream alive."""
        limit = self.exchange.limits.send_timeout
        if self._busy:
            if now - self.wrote_at > limit:
                self.cut(SlowClient(limit))
        elif now >= self.ends_at:
            self.come_back()
        elif now - self.wrote_at >= self.heartbeat_after:
            self._waits = self.heartbeat
            self.wake()

    def drain(self, retry_after: float) -> None:
        """End the response cleanly after the current send, with `farewell`."""
        self.finish(self.farewell(retry_after), Outcome.DRAINED)

    def come_back(self) -> None:
        """End the response as a complete one; the client should reconnect soon."""
        self.finish(self.farewell(random.uniform(0.1, 2.0)), Outcome.COMPLETE)  # noqa: S311

    def expire(self) -> None:
        """End the response as a complete one; the client must authenticate again."""
        self.finish(self.reauth(), Outcome.REJECTED)

    def finish(self, last_words: bytes, outcome: Outcome) -> None:
        """End the response after the current send and `last_words`."""
        if self._last is None:
            self._last = (last_words, outcome)
            self.wake()

    def cut(self, error: StreamAborted) -> None:
        """Raise `error` in the task of the request, which aborts the connection."""
        if self._error is None and self._owner is not None:
            self._error = error
            self._owner.cancel()

    def _next(self) -> bytes:
        """Return the next bytes; none to a client that is refused, whatever it has not read yet."""
        if self._last is not None and self._last[1] is Outcome.REJECTED:
            return b""
        return self._waits or self.take()

    def _push_at_once(self) -> bool:
        """Write as much as the client accepts without waiting; return whether that was all."""
        writer, exchange = self._direct, self.exchange
        if writer is None:
            return False
        try:
            while writer.ready():
                body = self._next()
                if not body:
                    return self._last is None
                self._waits = b""
                self.wrote_at = asyncio.get_running_loop().time()
                exchange.bytes_out += len(body)
                writer.write(body)
                if len(body) >= SHARE:
                    return False
        except Exception as error:
            self._fail(error)
            return True
        return False

    async def _push(self) -> None:
        loop = asyncio.get_running_loop()
        exchange = self.exchange
        try:
            while body := self._next():
                self._waits = b""
                self.wrote_at = loop.time()
                await self.write(body)
                if exchange.disconnected or self._error:
                    return
                if len(body) >= SHARE:
                    await asyncio.sleep(0)
            if self._last is not None:
                last_words, outcome = self._last
                self.wrote_at = loop.time()
                if last_words:
                    await self.write(last_words)
                exchange.outcome = outcome
                await self.end()
        except Exception as error:
            self._fail(error)
        finally:
            self._busy = False

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, StreamAborted):
            cause, error = error, StreamAborted(self.exchange.request_id)
            error.__cause__ = cause
        self.cut(error)

    async def run(self) -> None:
        """Wait until the client leaves, the response ends, or the channel is cut."""
        exchange = self.exchange
        kernel = kernel_of(exchange.scope)
        drain = kernel.drain
        kernel.channels.add(self)
        self._direct = direct_writer(exchange.scope) if self.layers is None else None
        try:
            if drain.draining:
                self.drain(drain.retry_after())
            self.wake()
            await self._stay()
        finally:
            kernel.channels.discard(self)
            if self._push_task is not None and (self._error or not exchange.response_complete):
                self._push_task.cancel()
            if self.background is not None:
                await self.background()
        if not exchange.response_complete:
            raise ClientDisconnect

    async def _stay(self) -> None:
        try:
            await self.listen()
        except asyncio.CancelledError:
            if self._error is None or self._owner is None:
                raise
            self._owner.uncancel()
            self.exchange.outcome = None  # The end was not sent completely.
            if self._error.__cause__ is not None:
                await self._report(self._error.__cause__)
            raise self._error from self._error.__cause__

    async def _report(self, cause: BaseException) -> None:
        """Send the problem to the client; raise SlowClient if it does not accept it."""
        exchange, limit = self.exchange, self.exchange.limits.send_timeout
        document = kernel_of(exchange.scope).describe(Problem.of(cause), exchange)
        try:
            async with asyncio.timeout(limit):
                await self.write(self.failure(document))
        except TimeoutError:
            raise SlowClient(limit) from None


class PushResponse(Response):
    """A response that opens a channel, which stays open after the path operation has returned."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)

    async def open(self, exchange: Exchange) -> Channel:
        """Return the channel of this response, subscribed to its content.

        The response has not started yet: a `Problem` raised here becomes the response.
        """
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.guarded = False
        if not exchange.body_complete:
            await exchange.whole_body()
        channel = exchange.channel = await self.open(exchange)  # Closed by the exchange.
        channel.background = self.background
        start: Message = {"type": "http.response.start", "status": 200, DIRECT: True}
        start["headers"] = self.raw_headers
        await send(start)
        if kernel_of(scope).has_layers or exchange.started is not start:
            # A middleware may transform the body, so all of it goes through the middleware.
            channel.layers = send
            await channel.run()
