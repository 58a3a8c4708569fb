"""Rows on their way to a client: encoded as they are made, sent in batches.

A chunk costs more than its rows do: so a fast source fills batches, and a slow one does not keep
its rows back for longer than BATCH_SECONDS. The source runs in one task of its own, in which its
timeouts and connections open and close; `wait_for(anext(source))` would kill it instead.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

Row = TypeVar("Row")

#: A batch goes out when it has so many bytes, or so many rows: a source that never waits holds the
#: loop for as long as they take. Or when its first row has waited for so many seconds.
BATCH_BYTES = 64 << 10
BATCH_ROWS = 1000
BATCH_SECONDS = 0.1


async def in_batches(
    rows: AsyncGenerator[Row | list[Row]],
    encode: Callable[[Row], bytes],
    end: Callable[[], bytes] = bytes,
) -> AsyncGenerator[bytes]:
    """Yield encoded rows, and behind them `end()`; a list of rows is a batch of its own.

    At most one batch is made ahead. What the source raises is raised behind the rows before it.
    """
    batch = _Batch()
    pump = asyncio.create_task(_pump(rows, encode, end, batch))
    try:
        ended = False
        while not ended:
            chunk = await batch.take()
            ended = pump.done()
            if chunk or not ended:
                yield chunk
        await pump
    finally:
        runs = pump.cancel()
        # Here and now, with whatever it awaits to clean up.
        [error] = await asyncio.gather(pump, return_exceptions=True)
        batch.close()
        if runs and isinstance(error, Exception):
            raise error


async def _pump(
    rows: AsyncGenerator[Row | list[Row]],
    encode: Callable[[Row], bytes],
    end: Callable[[], bytes],
    batch: "_Batch",
) -> None:
    try:
        async with aclosing(rows):
            async for item in rows:
                if isinstance(item, list):
                    batch.add(b"".join(map(encode, item)))
                    await batch.taken()
                elif batch.add(encode(item)):
                    await batch.taken()
        batch.add(end())
    finally:
        batch.ripe.set()


class _Batch:
    """What has been encoded and not been taken; ripe when somebody should take it."""

    def __init__(self) -> None:
        self.ripe = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._taken = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> bool:
        """Add a row; return whether the batch is to be taken before the next one."""
        if not self._parts:
            self._due = time.monotonic() + BATCH_SECONDS
            self._timer = self._loop.call_later(BATCH_SECONDS, self.ripe.set)
        self._parts.append(part)
        self._size += len(part)
        return (
            self._size >= BATCH_BYTES
            or len(self._parts) >= BATCH_ROWS
            # The timer alone would not do: a source that never waits does not let it fire.
            or time.monotonic() >= self._due
        )

    async def taken(self) -> None:
        """Offer the batch and wait until it has been taken."""
        self._taken.clear()
        self.ripe.set()
        await self._taken.wait()

    async def take(self) -> bytes:
        """Return the batch when it is ripe; empty when the source ended without more rows."""
        await self.ripe.wait()
        self.ripe.clear()
        self.close()
        chunk = b"".join(self._parts)
        self._parts, self._size = [], 0
        self._taken.set()
        return chunk

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
