"""How many subscriptions each name and each client has, and how many they may have."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from math import inf
from typing import Any, TypeVar

from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem, ProblemType
from .ring import Ring
from .settings import RealtimeSettings
from .topics import parts_of, topic_full

TOO_MANY = ProblemType(
    "too-many-topics",
    "Too many topics are followed",
    "This process follows as many topics and prefixes as it may. Come back after the seconds of"
    " `Retry-After`, or follow topics that others follow, too.",
)
TOO_MANY_OF_CLIENT = ProblemType(
    "too-many-topics-of-client",
    "You follow too many topics",
    "One sender, or one address, may follow only so many topics and prefixes at once. End a"
    " subscription before you begin the next.",
)


class Followers:
    """Counts subscriptions, from before their names are followed until they are closed."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self._settings = settings
        self._limit = settings.max_per_topic or inf
        #: By topic or prefix, and of several also by the list of them.
        self._readers: Counter[str | tuple[str, ...]] = Counter()
        self._lists = 0
        self._clients: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many topics and prefixes are followed."""
        return len(self._readers) - self._lists

    def reads(self, key: str | tuple[str, ...]) -> bool:
        """Whether anybody follows a topic, a prefix, or a list of them."""
        return key in self._readers

    def check(self, names: tuple[str, ...], client: str) -> None:
        """Raise Problem 429 or 503 when a client may not follow topics now; `""` is none."""
        settings, soon = self._settings, {"Retry-After": "5"}
        if any(sum(self._readers[part] for part in _parts(name)) >= self._limit for name in names):
            BOUNDS["realtime.max_per_topic"] += 1
            raise topic_full()
        if client and self._clients[client] + len(names) > settings.max_followed_per_client:
            BOUNDS["realtime.max_followed_per_client"] += 1
            detail = "You follow too many topics."
            raise Problem(429, detail, type=TOO_MANY_OF_CLIENT, headers=soon)
        new = sum(name not in self._readers for name in names)
        if new and len(self) + new > settings.max_followed:
            BOUNDS["realtime.max_followed"] += 1
            raise Problem(503, "Too many topics are followed.", type=TOO_MANY, headers=soon)

    def add(self, names: tuple[str, ...], client: str) -> None:
        if client:
            self._clients[client] += len(names)
        self._readers.update(names)
        if len(names) > 1:
            self._readers[names] += 1
            self._lists += self._readers[names] == 1

    def remove(self, names: tuple[str, ...], client: str) -> list[str]:
        """Count a subscription no more, and return the names that nobody follows now."""
        if client:
            self._clients[client] -= len(names)
            if not self._clients[client]:
                del self._clients[client]
        if len(names) > 1:
            self._readers[names] -= 1
            if not self._readers[names]:
                del self._readers[names]
                self._lists -= 1
        self._readers.subtract(names)
        left = [name for name in names if not self._readers[name]]
        for name in left:
            del self._readers[name]
        return left


def _parts(name: str) -> list[str]:
    return [name] if name.endswith(".*") else parts_of(name)


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
