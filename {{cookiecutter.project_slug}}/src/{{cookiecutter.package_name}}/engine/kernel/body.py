"""The one reader of a request body.

Starlette's `request.stream()` has no limit and waits for ever; two readers of `receive` lose
chunks. Every body of this service goes through here instead.

Source: RFC 9110, sections 8.6 (Content-Length), 14.5 (Content-Range), 15.5.9 (408), 15.5.14 (413).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from .deadlines import Deadline
from .limits import StreamingSettings
from .problem import Problem, ProblemType

#: Bytes that are read though nobody wants them.
UNWANTED = 16 << 20

TOO_LARGE = ProblemType(
    "too-large",
    "Too large",
    "What was sent or announced has more bytes, or more parts, than are taken here; where it is a"
    " matter of bytes, `limit` says how many may come. The same again will be refused again.",
)
TOO_SLOW = ProblemType(
    "too-slow",
    "The body came too slowly",
    "No byte of the body came for too long, or all of them came too slowly. Send it again. An"
    " upload that can be resumed loses its connection instead, or gets a 503, and goes on from its"
    " offset.",
)
PARTIAL = ProblemType(
    "partial-body",
    "The body is a piece of something",
    "The request says that its body is one of several pieces, as `Content-Range` does; stored as a"
    " whole it would be a wrong one. Send the whole in one request, or a file by resumable uploads"
    " (`/uploads`), where the service has them: they put pieces together.",
)
#: How clients name the place of a piece; the second as the nginx upload module reads it.
_PLACES = ("content-range", "x-content-range")


class Arriving(Protocol):
    """What a reader has to know of the request: the exchange of it."""

    limits: StreamingSettings
    declared: int | None
    body_complete: bool


class RequestBody:
    """Iterate a request body in the chunks in which it arrives (bytes, never empty).

    Making one raises Problem 400 for a piece of a whole. Iterating it raises Problem 413 when the
    body is declared or counted above `limit` bytes, Problem 408 when it stalls or arrives below the
    minimum rate, and ClientDisconnect when the client leaves before the body's end.
    """

    def __init__(self, request: Request, limit: int) -> None:
        for name in _PLACES:
            if name in request.headers:
                raise partial_body(f"`{name}`")
        exchange: Arriving = request.scope["exchange"]
        limits = exchange.limits
        self._receive = request.receive
        self._idle, self._min_rate = limits.idle_timeout, limits.min_rate
        self._deadline = Deadline()
        # An empty body is one message, which may go to whoever watches for the client to leave.
        self._more = not exchange.body_complete
        self._waited = 0.0
        self.limit = limit
        self.declared = exchange.declared
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
        self._deadline.end()
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """Return the whole body; for small ones, as the limit is the memory that it may take."""
        return b"".join([chunk async for chunk in self])

    async def _next(self) -> Message:
        # Only the time that the client keeps us waiting counts: a slow disk is not its fault.
        budget = self._idle + self.received / self._min_rate - self._waited
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            with self._deadline.within(min(budget, self._idle)):
                return await self._receive()
        except TimeoutError:
            detail = "The body stalled or arrived too slowly."
            raise Problem(408, detail, type=TOO_SLOW) from None
        finally:
            self._waited += clock() - started

    def _too_large(self) -> Problem:
        detail = f"The body may have at most {self.limit} bytes."
        return Problem(413, detail, type=TOO_LARGE, limit=self.limit)


async def whole_request(request: Request) -> None:
    """Wait for the end of a request whose body means nothing, before anything is done for it.

    A dependency for routes that change something: an incomplete request must not (RFC 9112, section
    8). Raises Problem 408 for a stalled body and 413 for one above 16 MiB.
    """
    async for _ in RequestBody(request, UNWANTED):
        pass


def partial_body(sign: str) -> Problem:
    """Return the problem for a body that is a piece of a whole, as `sign` says."""
    return Problem(400, f"{sign} says that this is a piece of a whole.", type=PARTIAL)
