"""Rings that are being opened, which takes a broker some time."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from .ring import Ring

K = TypeVar("K", bound=Hashable)


class Opening(dict[Hashable, asyncio.Task[Ring]]):
    """By topic, prefix or list of them."""

    async def once(self, key: K, open_ring: Callable[[K], Coroutine[Any, Any, Ring]]) -> Ring:
        """Open a ring in a task that is shared by all who want it at the same time."""
        task = self.get(key)
        if task is None:
            task = self[key] = asyncio.create_task(open_ring(key))
            task.add_done_callback(lambda task: self._opened(key, task))
        return await asyncio.shield(task)

    def _opened(self, key: Hashable, task: asyncio.Task[Ring]) -> None:
        del self[key]
        if not task.cancelled():
            task.exception()  # Seen, also when nobody waits any more.
