"""The one reader of a request body.

Starlette's `request.stream()` has no limit and waits for ever; two readers of `receive` lose
chunks. Every body of this service goes through here instead.

Sources: RFC 9110, sections 8.6 (Content-Length), 15.5.9 (408), 15.5.14 (413).
"""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

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
        self.limit = limit
        declared = request.headers.get("content-length")
        self.declared = int(declared) if declared is not None else None
        self.received = 0
        self._waited = 0.0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.declared is not None and self.declared > self.limit:
            raise self._too_large()
        more = True
        while more:
            chunk, more = await self._next()
            self.received += len(chunk)
            if self.received > self.limit:
                raise self._too_large()
            if chunk:
                yield chunk

    async def read(self) -> bytes:
        """Return the whole body; for small ones, as the limit is the memory that it may take."""
        return b"".join([chunk async for chunk in self])

    async def _next(self) -> tuple[bytes, bool]:
        # Only the time that the client keeps us waiting counts: a slow disk is not its fault.
        budget = self._limits.idle_timeout + self.received / self._limits.min_rate - self._waited
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(budget, self._limits.idle_timeout)):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "The body stalled or arrived too slowly.") from None
        self._waited += time.monotonic() - started
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message.get("body", b""), message.get("more_body", False)

    def _too_large(self) -> Problem:
        return Problem(413, f"The body may have at most {self.limit} bytes.", limit=self.limit)
