"""The one reader of a request body.

Starlette's `request.stream()` has no limit and waits for ever; two readers of `receive` lose
chunks. Every body of this service goes through here instead.

Sources: RFC 9110, sections 8.6 (Content-Length), 15.5.9 (408), 15.5.14 (413).
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from .exchange import exchange_of
from .problem import Problem, problem_type

TOO_LARGE = problem_type(
    "too-large",
    "Too large",
    "What was sent or announced has more bytes, or more parts, than are taken here; where it is a"
    " matter of bytes, `limit` says how many may come. The same again will be refused again.",
)
TOO_SLOW = problem_type(
    "too-slow",
    "The body came too slowly",
    "No byte of the body came for too long, or all of them came too slowly. Send it again; an"
    " upload that can be resumed goes on from its offset.",
)
ENCODED = problem_type(
    "encoded-body",
    "The body is encoded",
    "The bytes are wanted as they are, not compressed. Send them without `Content-Encoding`.",
)


#: Seconds by which a timer of a loop that has nothing better to do may be late.
PUNCTUAL = 0.05


class RequestBody:
    """Iterate a request body in the chunks in which it arrives (bytes, never empty).

    Raises Problem 413 when the body is declared or counted above `limit` bytes, Problem 408 when it
    stalls or arrives below the minimum rate, and ClientDisconnect when the client leaves before the
    body's end.
    """

    def __init__(self, request: Request, limit: int) -> None:
        exchange = exchange_of(request.scope)
        limits = exchange.limits
        self._receive = request.receive
        self._idle, self._min_rate = limits.idle_timeout, limits.min_rate
        self._watch = _Watch()
        # An empty body is one message, which may go to whoever watches for the client to leave.
        self._more = not exchange.body_complete
        self._waited = 0.0
        self.limit = limit
        declared = request.headers.get("content-length")
        self.declared = int(declared) if declared is not None else None
        self.received = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.declared is not None and self.declared > self.limit:
            raise self._too_large()
        while self._more:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            self._more = message.get("more_body", False)
            self.received += len(chunk)
            if self.received > self.limit:
                raise self._too_large()
            if chunk:
                return chunk
        self._watch.end()
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """Return the whole body; for small ones, as the limit is the memory that it may take."""
        return b"".join([chunk async for chunk in self])

    async def _next(self) -> Message:
        watch = self._watch
        # Only the time that the client keeps us waiting counts: a slow disk is not its fault.
        budget = self._idle + self.received / self._min_rate - self._waited
        started = watch.begin(min(budget, self._idle))
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if watch.expired():
                raise Problem(
                    408, "The body stalled or arrived too slowly.", type=TOO_SLOW
                ) from None
            raise
        finally:
            self._waited += watch.pause() - started

    def _too_large(self) -> Problem:
        detail = f"The body may have at most {self.limit} bytes."
        return Problem(413, detail, type=TOO_LARGE, limit=self.limit)


def refuse_coding(request: Request) -> None:
    """Raise Problem 415 for a body with a content coding, whose bytes stand for others."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        detail, headers = "Send the body without content coding.", {"Accept-Encoding": "identity"}
        raise Problem(415, detail, type=ENCODED, headers=headers)


class _Watch:
    """Cancels a wait at its deadline, as `asyncio.timeout` does, with one timer for many waits.

    A timer per chunk would cost more than the chunk: this one looks at the deadline when it fires,
    and only then sets itself to what the deadline is by now.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._deadline: float | None = None
        self._cancelling = 0
        self._fired = False

    def begin(self, seconds: float) -> float:
        """Begin a wait that may take so long; return the loop's time, in seconds."""
        now = self._loop.time()
        self._deadline = now + seconds
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task else 0
        if self._timer is None or self._fires_at > self._deadline:
            self._set(self._deadline)
        return now

    def pause(self) -> float:
        """End a wait; return the loop's time."""
        self._deadline = None
        return self._loop.time()

    def expired(self) -> bool:
        """Whether it was the deadline that cancelled the wait, and nobody else as well."""
        task = self._task
        return self._fired and task is not None and task.uncancel() <= self._cancelling

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, deadline: float) -> None:
        self.end()
        self._fires_at = deadline
        self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None:
            return  # Nobody waits; who does next sets a timer.
        now = self._loop.time()
        if self._fires_at <= self._deadline and now > self._fires_at + PUNCTUAL:
            # The loop was busy: what has come meanwhile is read first, and then we look once more.
            self._set(now + PUNCTUAL)
        elif self._deadline <= now and self._task is not None:
            self._fired = True
            self._task.cancel()
        else:
            self._set(self._deadline)
