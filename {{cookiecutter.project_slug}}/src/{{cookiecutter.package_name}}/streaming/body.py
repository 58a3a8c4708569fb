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

from .kernel import kernel_of
from .problem import Problem


class RequestBody:
    """Iterate a request body in the chunks in which it arrives (bytes, never empty).

    Raises Problem 413 when the body is declared or counted above `limit` bytes, Problem 408 when it
    stalls or arrives below the minimum rate, and ClientDisconnect when the client leaves before the
    body's end.
    """

    def __init__(self, request: Request, limit: int) -> None:
        self._receive = request.receive
        self._limits = kernel_of(request.scope).limits
        self._loop = asyncio.get_running_loop()
        self._watch = _Watch(self._loop)
        self.limit = limit
        declared = request.headers.get("content-length")
        self.declared = int(declared) if declared is not None else None
        self.received = 0
        self._waited = 0.0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.declared is not None and self.declared > self.limit:
            raise self._too_large()
        more = True
        try:
            while more:
                message = await self._next()
                chunk, more = message.get("body", b""), message.get("more_body", False)
                self.received += len(chunk)
                if self.received > self.limit:
                    raise self._too_large()
                if chunk:
                    yield chunk
        finally:
            self._watch.end()

    async def read(self) -> bytes:
        """Return the whole body; for small ones, as the limit is the memory that it may take."""
        return b"".join([chunk async for chunk in self])

    async def _next(self) -> Message:
        # Only the time that the client keeps us waiting counts: a slow disk is not its fault.
        idle = self._limits.idle_timeout
        budget = idle + self.received / self._limits.min_rate - self._waited
        started = self._loop.time()
        self._watch.begin(started + min(budget, idle))
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if self._watch.expired():
                raise Problem(408, "The body stalled or arrived too slowly.") from None
            raise
        finally:
            self._watch.pause()
        self._waited += self._loop.time() - started
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message

    def _too_large(self) -> Problem:
        return Problem(413, f"The body may have at most {self.limit} bytes.", limit=self.limit)


class _Watch:
    """Cancels a wait at its deadline, as `asyncio.timeout` does, with one timer for many waits.

    A timer per chunk would cost more than the chunk: this one looks at the deadline when it fires,
    and only then sets itself to what the deadline is by now.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._cancelled: int | None = None

    def begin(self, deadline: float) -> None:
        """Begin a wait of the current task that ends at `deadline` (seconds of the loop)."""
        self._task = asyncio.current_task()
        if self._timer is None or self._timer.when() > deadline:
            self.end()
            self._timer = self._loop.call_at(deadline, self._look)
        self._deadline = deadline

    def pause(self) -> None:
        self._deadline = None

    def expired(self) -> bool:
        """Whether it was the deadline that cancelled the wait, and nobody else as well."""
        task, before = self._task, self._cancelled
        return task is not None and before is not None and task.uncancel() <= before

    def end(self) -> None:
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None:
            return  # Nobody waits; who does next sets a timer.
        if self._deadline <= self._loop.time() and self._task is not None:
            self._cancelled = self._task.cancelling()
            self._task.cancel()
        else:
            self._timer = self._loop.call_at(self._deadline, self._look)
