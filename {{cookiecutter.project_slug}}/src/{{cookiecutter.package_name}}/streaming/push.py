"""Push: a response that others write to, for as long as the client stays.

A generator with a queue and a task per subscriber costs twenty times what the sending does. Here
the response only waits for the client to leave; whoever has something new calls `Channel.wake`,
and one sweeper per process sends heartbeats and cuts clients that stopped reading.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .deadlines import send_within
from .exchange import Exchange, exchange_of
from .outcomes import Outcome, SlowClient, StreamAborted
from .problem import Problem


def _start(coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    if sys.version_info >= (3, 12):
        # Eagerly: a send that does not block is done when this returns, without the loop.
        return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.get_running_loop().create_task(coroutine)


class Channel(ABC):
    """The open response of one client; a subclass knows what comes next on it."""

    __slots__ = (
        "_busy", "_error", "_farewell", "_owner", "_push_task", "_waits", "exchange", "wrote_at",
    )  # fmt: skip

    #: Seconds of silence after which `heartbeat` is sent.
    heartbeat_after: float
    heartbeat: bytes

    def __init__(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        self.exchange = exchange
        self.wrote_at = loop.time()
        self._owner = asyncio.current_task()
        self._push_task: asyncio.Task[None] | None = None
        self._busy = False
        self._waits = b""
        self._farewell: bytes | None = None
        self._error: StreamAborted | None = None

    @abstractmethod
    def take(self) -> bytes:
        """Return what is to be sent now and count it as sent; empty when there is nothing."""

    @abstractmethod
    def close(self) -> None:
        """Unsubscribe; nothing wakes this channel after that."""

    @abstractmethod
    def farewell(self, retry_after: float) -> bytes:
        """Return the words that tell a client to come back in so many seconds."""

    @abstractmethod
    def failure(self, document: dict[str, Any]) -> bytes:
        """Return the record that tells a client why its stream ends here."""

    def wake(self) -> None:
        """Send what there is; when the client is slow, as soon as it takes more."""
        if not self._busy and not self.exchange.response_complete:
            self._busy = True
            self._push_task = _start(self._push())

    def sweep(self, now: float, send_timeout: float) -> None:
        """Cut a client that has not taken anything for too long; keep a silent stream alive."""
        if self._busy:
            if now - self.wrote_at > send_timeout:
                self.cut(SlowClient(send_timeout))
        elif now - self.wrote_at >= self.heartbeat_after:
            self._waits = self.heartbeat
            self.wake()

    def drain(self, retry_after: float) -> None:
        """Say goodbye after what is under way, and end the response cleanly."""
        self._farewell = self.farewell(retry_after)
        self.wake()

    def cut(self, error: StreamAborted) -> None:
        """Make the request's own task raise `error`, which aborts the connection."""
        if self._error is None and self._owner is not None:
            self._error = error
            self._owner.cancel()

    async def _push(self) -> None:
        loop = asyncio.get_running_loop()
        exchange = self.exchange
        try:
            while body := self._waits or self.take():
                self._waits = b""
                self.wrote_at = loop.time()
                await exchange.push(body)
                if exchange.disconnected or self._error:
                    return
            if self._farewell is not None:
                exchange.outcome = Outcome.DRAINED
                await exchange.push(self._farewell)
                await exchange.push(b"", more=False)
        except Exception as error:
            aborted = StreamAborted(exchange.request_id)
            aborted.__cause__ = error
            self.cut(aborted)
        finally:
            self._busy = False

    async def run(self, receive: Receive, send: Send) -> None:
        """Wait until the client leaves, the response ends, or the channel is cut."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            if self._error is None or self._owner is None:
                raise
            self._owner.uncancel()
            if self._error.__cause__ is not None:
                document = self.exchange.kernel.describe(
                    Problem.of(self._error.__cause__), self.exchange
                )
                message = {"body": self.failure(document), "more_body": True}
                limit = self.exchange.kernel.limits.send_timeout
                await send_within(send, {"type": "http.response.body", **message}, limit)
            raise self._error from self._error.__cause__
        finally:
            if self._push_task is not None and not self.exchange.response_complete:
                self._push_task.cancel()


class PushResponse(Response):
    """Open a channel for the client and keep it until one of them ends it."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)

    def open(self, exchange: Exchange) -> Channel:
        """Return the channel of this response, subscribed to what it sends."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        channel = self.open(exchange)
        exchange.kernel.channels.add(channel)
        try:
            if exchange.kernel.drain.draining:  # It has begun since this request was admitted.
                channel.drain(exchange.kernel.drain.retry_after())
            else:
                channel.wake()
            await channel.run(receive, send)
        finally:
            exchange.kernel.channels.discard(channel)
            channel.close()
        if not exchange.response_complete:
            raise ClientDisconnect
