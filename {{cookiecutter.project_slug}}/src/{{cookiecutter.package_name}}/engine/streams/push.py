"""Push: a response that others write to, for as long as the client stays.

A generator with a queue and a task per subscriber costs twenty times what the sending does. Here
the response only waits for the client to leave; whoever has something new calls `Channel.wake`,
and one sweeper per process sends heartbeats and cuts clients that stopped reading.
"""

import asyncio
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from math import inf
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..kernel.exchange import Exchange, exchange_of
from ..kernel.extensions import DirectWriter
from ..kernel.kernel import kernel_of
from ..kernel.outcomes import Outcome, SlowClient, StreamAborted
from ..kernel.problem import Problem

#: Bytes after which others have their turn: a client that catches up may take as much as there is.
SHARE = 64 << 10


def _start(coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    if sys.version_info >= (3, 12):
        # Eagerly: a send that does not block is done when this returns, without the loop.
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.get_running_loop().create_task(coroutine)


class Channel(ABC):
    """The open response of one client; a subclass knows what comes next on it.

    The path operation has returned by then, and what it needed is released: a channel is all that
    a client costs while it waits.
    """

    __slots__ = (
        "_busy", "_direct", "_error", "_last", "_owner", "_push_task", "_waits",
        "background", "ends_at", "exchange", "heartbeat_after", "layers", "wrote_at",
    )  # fmt: skip

    heartbeat: bytes

    def __init__(self, exchange: Exchange, heartbeat_after: float, max_age: float = inf) -> None:
        """`heartbeat` is sent after so many seconds of silence, `farewell` at that age."""
        now = asyncio.get_running_loop().time()
        self.exchange = exchange
        #: The `send` of the middleware that is between us and the server, if there is any.
        self.layers: Send | None = None
        #: Runs when the client is gone, whatever the outcome.
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
        """Return what is to be sent now and count it as sent; empty when there is nothing."""

    @abstractmethod
    def close(self) -> None:
        """Unsubscribe; nothing wakes this channel after that. May be called again."""

    @abstractmethod
    def farewell(self, retry_after: float) -> bytes:
        """Return the words that tell a client to come back in so many seconds."""

    @abstractmethod
    def failure(self, document: dict[str, Any]) -> bytes:
        """Return the record that tells a client why its stream ends here."""

    async def write(self, body: bytes) -> None:
        """Send what `take` and the others return."""
        if self.layers is not None:
            await self.layers({"type": "http.response.body", "body": body, "more_body": True})
        elif self._direct is None:
            await self.exchange.push(body)
        else:  # The same way as the others: whoever is between may keep a part, which then is late.
            self.exchange.bytes_out += len(body)
            await self._direct.send(body)

    async def end(self) -> None:
        """End the response as whole."""
        if self.layers is None:
            await self.exchange.push(b"", more=False)
        else:
            await self.layers({"type": "http.response.body", "body": b"", "more_body": False})

    async def listen(self) -> None:
        """Return when the client has left."""
        while (await self.exchange.receive())["type"] != "http.disconnect":
            pass

    def wake(self) -> None:
        """Send what there is; when the client is slow, as soon as it takes more."""
        # Behind a failure nothing follows: who comes back then would have read past what it lost.
        if not self._busy and self._error is None and not self.exchange.response_complete:
            self._busy = True
            if self._push_at_once():
                self._busy = False
            else:
                self.wrote_at = asyncio.get_running_loop().time()
                self._push_task = _start(self._push())

    def sweep(self, now: float) -> None:
        """Cut a client that has not taken anything for too long; keep a silent stream alive."""
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
        """Say goodbye after what is under way, and end the response cleanly."""
        self.finish(self.farewell(retry_after), Outcome.DRAINED)

    def come_back(self) -> None:
        """End the response as whole; the client is to come back soon."""
        self.finish(self.farewell(random.uniform(0.1, 2.0)), Outcome.COMPLETE)  # noqa: S311

    def finish(self, last_words: bytes, outcome: Outcome) -> None:
        """End the response after what is under way and these words."""
        if self._last is None:
            self._last = (last_words, outcome)
            self.wake()

    def cut(self, error: StreamAborted) -> None:
        """Make the request's own task raise `error`, which aborts the connection."""
        if self._error is None and self._owner is not None:
            self._error = error
            self._owner.cancel()

    def _push_at_once(self) -> bool:
        """Write what the client takes without waiting; return whether that was all there is."""
        writer, exchange = self._direct, self.exchange
        if writer is None:
            return False
        try:
            while writer.ready():
                body = self._waits or self.take()
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
            while body := self._waits or self.take():
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
        """Stay until the client leaves, the response ends, or the channel is cut."""
        exchange = self.exchange
        kernel = kernel_of(exchange.scope)
        drain = kernel.drain
        kernel.channels.add(self)
        self._direct = exchange.direct_writer() if self.layers is None else None
        try:
            if drain.draining:  # It has begun since this request was admitted.
                self.drain(drain.retry_after())
            else:
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
            self.exchange.outcome = None  # Not even the last words have arrived.
            if self._error.__cause__ is not None:
                await self._tell(self._error.__cause__)
            raise self._error from self._error.__cause__

    async def _tell(self, cause: BaseException) -> None:
        """Tell the client what went wrong, if it takes that."""
        exchange, limit = self.exchange, self.exchange.limits.send_timeout
        document = kernel_of(exchange.scope).describe(Problem.of(cause), exchange)
        try:
            async with asyncio.timeout(limit):
                await self.write(self.failure(document))
        except TimeoutError:
            raise SlowClient(limit) from None


class PushResponse(Response):
    """Open a channel for the client, which stays when the path operation has ended."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)

    async def open(self, exchange: Exchange) -> Channel:
        """Return the channel of this response, subscribed to what it sends.

        The response has not started yet: what this raises is still an answer of its own.
        """
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        if not exchange.body_complete:
            await exchange.whole_body()
        channel = exchange.channel = await self.open(exchange)  # Closed by the exchange.
        channel.background = self.background
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        if kernel_of(scope).has_layers or exchange.started is not start:
            # A middleware may make another body of this one, so all of it goes that way.
            channel.layers = send
            await channel.run()
