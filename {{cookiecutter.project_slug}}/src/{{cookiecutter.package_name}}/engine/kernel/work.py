"""The work of an application for one request, which a guard cancels for a reason.

`guard` is that of responses, and `socket_guard` that of WebSockets.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Message

from .admission import admit
from .exchange import ClientGone, Exchange, Outcome, SlowClient, StreamAborted
from .kernel import Kernel
from .problem import Problem

#: Seconds after which a response that never waits lets the event loop run.
TURN = 0.01
#: Seconds that the work for a response may take to clean up.
CLEANUP_SECONDS = 5.0
#: The streams of the guard count as those of a module with this name.
MODULE = "app"
#: The arguments of Starlette's error for an error that has a handler, after the start.
ALREADY_STARTED = ("Caught handled exception, but response already started.",)

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
    #: Returns the background task, which Starlette skips when the response fails or ends early.
    background: Callable[[], BackgroundTask | None] | None = None
    #: Whether the response has ended before its source.
    ends_early = False
    _watcher: asyncio.Task[None] | None = None
    _task: asyncio.Task[None] | None = None
    #: The number of messages that are being sent.
    _sends = 0
    #: Whether the response has begun, and only parts of its body follow.
    _is_flowing = False
    #: When the first of them was passed to the server, or the client last accepted one.
    _sent_at = 0.0
    _ended_at = _turn = 0.0
    #: When the work is cut off at the end of the drain.
    _cut_at: float | None = None

    def __init__(self, kernel: Kernel, exchange: Exchange) -> None:
        self.kernel = kernel
        self.exchange = exchange
        #: The generators of the response, which are closed after it.
        self.sources: list[AsyncGenerator[Any]] = []
        self._owner = asyncio.current_task()
        self._clock = asyncio.get_running_loop().time

    def admit(self) -> None:
        """Count a stream; raise Problem 503 or 429 if too many are open."""
        if not self.exchange.admitted_to:
            admit(self.kernel, HTTPConnection(self.exchange.scope), MODULE)

    def cut(self, reason: BaseException) -> None:
        """Cancel the work, after the cleanup of a source: task groups would cancel its awaits."""
        if self.reason is None:
            self.reason = reason
            self._ended_at = self._clock()
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
        if self.reason is not None:
            raise ClientGone
        if not self._sends:
            self._sent_at = self._clock()
        self._sends += 1
        try:
            await (self.exchange.send_part if self._is_flowing else self.exchange.send)(message)
        finally:
            self._sends -= 1
            if self._sends:
                self._sent_at = self._clock()

    async def _take_turn(self) -> None:
        """Let the event loop run: an application that never waits would keep it."""
        await asyncio.sleep(0)
        self._turn = self._clock()

    def sweep(self, now: float) -> None:
        """Cut off a client that does not read."""
        limit = self.exchange.limits.send_timeout
        if self.reason is not None:
            if now - self._ended_at > CLEANUP_SECONDS:
                self.cancel(self._owner)
        elif self._sends and now - self._sent_at > limit:
            self.cut(SlowClient(limit))
        elif self._cut_at is not None and now > self._cut_at:
            self.exchange.outcome = Outcome.DRAINED
            self.cut(StreamAborted(self.exchange.request_id))

    def drain(self, retry_after: float) -> None:
        """Cut the work at the end of the drain; granian would wait for it without a limit."""
        drain = self.kernel.drain
        self._cut_at = self._clock() + drain.notice + drain.timeout

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
        """Run the background task that Starlette has skipped."""
        is_skipped = self.ends_early or not self.exchange.response_complete
        task = self.background() if is_skipped and self.background is not None else None
        if task is not None:
            await task()
