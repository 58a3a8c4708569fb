"""The only reader of request bodies, with a size limit and deadlines.

Starlette's `request.stream()` has neither, and two readers of `receive` lose chunks.
Source: RFC 9110, sections 8.6 (Content-Length), 14.5 (Content-Range), 15.5.9 (408), 15.5.14 (413).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from .limits import StreamingSettings
from .problem import Problem, ProblemType

#: Maximum bytes of an unwanted body that are read and discarded.
UNWANTED = 16 << 20
#: Seconds by which a timer of an idle event loop may be late.
PUNCTUAL = 0.05

TOO_LARGE = ProblemType(
    "too-large",
    "Too large",
    "The request sends or declares more bytes, or more parts, than this operation accepts. For"
    " bytes, `limit` is the largest number that is accepted. The same request will be rejected"
    " again.",
)
TOO_SLOW = ProblemType(
    "too-slow",
    "The body arrived too slowly",
    "The body stalled, or its bytes arrived below the minimum rate. Send it again. In a resumable"
    " upload the connection is closed instead, or the status is 503, and the client continues from"
    " the offset.",
)
PARTIAL = ProblemType(
    "partial-body",
    "The body is only a part",
    "The request declares, for example with `Content-Range`, that its body is one of several parts"
    " of a file. A part must not be stored as if it were complete. Send the whole file in one"
    " request, or use resumable uploads (`/uploads`) if the service has them.",
)
#: The headers that declare a part; the nginx upload module reads the second one.
_RANGES = ("content-range", "x-content-range")


class Deadline:
    """A time limit for a peer, like `asyncio.timeout`, with one timer for many waits in a row.

    A timer per chunk would cost more than the chunk. When this timer fires it compares the time
    with the current deadline, and starts again if that has moved. When the event loop itself was
    late, it first lets the loop process what the peer has sent in the meantime.
    """

    __slots__ = ("_at", "_cancelling", "_fired", "_fires_at", "_loop", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._at: float | None = None
        self._cancelling = 0
        self._fired = False

    def within(self, seconds: float) -> Self:
        """Return a context that raises TimeoutError if the block takes longer."""
        self._at = self._loop.time() + seconds
        return self

    def end(self) -> None:
        """Cancel the timer after the last wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task else 0
        if self._at is not None and (self._timer is None or self._fires_at > self._at):
            self._set(self._at)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._at = None
        if self._fired and self._task is not None:
            self._fired = False
            # Keep the cancellation if the task was cancelled for another reason as well.
            if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from None

    def _set(self, when: float) -> None:
        self.end()
        self._fires_at = when
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._at is None:
            return  # The next wait sets a timer.
        now = self._loop.time()
        if self._fires_at <= self._at and now > self._fires_at + PUNCTUAL:
            self._set(now + PUNCTUAL)
        elif self._at <= now and self._task is not None:
            self._fired = True
            self._task.cancel()
        else:
            self._set(self._at)


class Arriving(Protocol):
    """The part of an exchange that a reader uses."""

    limits: StreamingSettings
    declared: int | None
    body_complete: bool
    has_reader: bool
    is_ahead: bool


@dataclass(eq=False)
class BoundedReceive:
    """The `receive` of a request body, with a size limit and deadlines.

    Raises Problem 413 when the declared or received length exceeds `limit` bytes, Problem 408 when
    the body stalls or arrives below the minimum rate.
    """

    _receive: Receive
    _limits: StreamingSettings
    declared: int | None
    limit: int
    received: int = field(default=0, init=False)
    _waited: float = field(default=0.0, init=False)
    _deadline: Deadline = field(default_factory=Deadline, init=False)

    async def message(self) -> Message:
        if self.declared is not None and self.declared > self.limit:
            raise self.too_large()
        # Only time spent waiting for the client counts: a slow disk is not its fault.
        idle, min_rate = self._limits.idle_timeout, self._limits.min_rate
        budget = idle + self.received / min_rate - self._waited
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            with self._deadline.within(min(budget, idle)):
                message = await self._receive()
        except TimeoutError:
            detail = "The body stalled or arrived too slowly."
            raise Problem(408, detail, type=TOO_SLOW) from None
        finally:
            self._waited += clock() - started
        self.received += len(message.get("body", b""))
        if self.received > self.limit:
            raise self.too_large()
        if not message.get("more_body", False):
            self._deadline.end()
        return message

    def too_large(self) -> Problem:
        detail = f"The body may have at most {self.limit} bytes."
        return Problem(413, detail, type=TOO_LARGE, limit=self.limit)


class RequestBody(BoundedReceive):
    """Iterate a request body in the chunks in which it arrives (bytes, never empty).

    The constructor raises Problem 400 for a part of a whole. Iteration raises Problem 413 when the
    declared or received length exceeds `limit` bytes, Problem 408 when it stalls or arrives below
    the minimum rate, and ClientDisconnect when the client leaves before the body's end.
    """

    def __init__(self, request: Request, limit: int) -> None:
        for name in _RANGES:
            if name in request.headers:
                raise partial_body(f"`{name}`")
        exchange: Arriving = request.scope["exchange"]
        exchange.has_reader = True
        super().__init__(request.receive, exchange.limits, exchange.declared, limit)
        # An empty body is one message, which a task that watches the client may have received.
        self._more = exchange.is_ahead or not exchange.body_complete

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.declared is not None and self.declared > self.limit:
            raise self.too_large()
        while self._more:
            message = await self.message()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            self._more = message.get("more_body", False)
            if chunk:
                return chunk
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """Return the whole body, which takes up to `limit` bytes of memory."""
        return b"".join([chunk async for chunk in self])


async def whole_request(request: Request) -> None:
    """Read and discard the body of a request, so that it is complete before its route runs.

    A dependency for routes that change something and need no body: an incomplete request must have
    no effect (RFC 9112, section 8). Raises Problem 408 for a stalled body and 413 for one above 16
    MiB.
    """
    async for _ in RequestBody(request, UNWANTED):
        pass


def partial_body(source: str) -> Problem:
    """Return the problem for a body that `source` declares to be a part of a whole."""
    return Problem(400, f"{source} declares a part of a whole.", type=PARTIAL)
