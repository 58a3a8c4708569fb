"""Limits of clients: how many topics they follow, and how often they publish."""

import math
import time
from collections import Counter
from math import inf

from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem, ProblemType
from .settings import RealtimeSettings
from .topics import parts_of

#: Clients whose publish rate is remembered.
MAX_CLIENTS = 10_000

TOPIC_FULL = ProblemType(
    "too-many-subscribers",
    "The topic has too many subscribers",
    "The number of subscribers of each topic is limited. Try again after the seconds in"
    " `Retry-After`, or follow other topics.",
)
TOO_MANY_TOPICS = ProblemType(
    "too-many-topics",
    "Too many topics are followed",
    "The number of different topics and prefixes that all clients follow is limited. Try again"
    " after the seconds in `Retry-After`, or follow topics that other clients already follow.",
)
TOO_MANY_OF_CLIENT = ProblemType(
    "too-many-topics-of-client",
    "You follow too many topics",
    "The number of topics and prefixes that one client may follow at once is limited. A client is"
    " an authenticated user, or an address. End a subscription before you begin another.",
)
TOO_MANY_EVENTS = ProblemType(
    "too-many-events",
    "Too many events",
    "The number of events that one client publishes per second is limited, so this one was not"
    " published. Try again after the seconds in `Retry-After`.",
)


class Followers:
    """Counts subscriptions, from before their names are followed until they are closed."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self._settings = settings
        self._limit = settings.max_per_topic or inf
        #: By topic or prefix, and by the list of names.
        self._readers: Counter[str] = Counter()
        self._lists: Counter[tuple[str, ...]] = Counter()
        self._clients: Counter[str] = Counter()

    def of(self, key: str | tuple[str, ...]) -> int:
        """Return how many subscriptions have a topic, a prefix, or a list of names."""
        return self._readers[key] if isinstance(key, str) else self._lists[key]

    def check(self, names: tuple[str, ...], client: str) -> None:
        """Raise Problem 429 or 503 if a client may not follow these topics now.

        An empty `client` has no limit of its own.
        """
        settings, soon = self._settings, {"Retry-After": "5"}
        if any(sum(map(self._readers.__getitem__, parts_of(n))) >= self._limit for n in names):
            BOUNDS["realtime.max_per_topic"] += 1
            detail = "The topic has too many subscribers."
            raise Problem(503, detail, type=TOPIC_FULL, headers=soon)
        if client and self._clients[client] + len(names) > settings.max_followed_per_client:
            BOUNDS["realtime.max_followed_per_client"] += 1
            detail = "You follow too many topics."
            raise Problem(429, detail, type=TOO_MANY_OF_CLIENT, headers=soon)
        new = sum(name not in self._readers for name in names)
        if new and len(self._readers) + new > settings.max_followed:
            BOUNDS["realtime.max_followed"] += 1
            detail = "Too many topics are followed."
            raise Problem(503, detail, type=TOO_MANY_TOPICS, headers=soon)

    def add(self, names: tuple[str, ...], client: str) -> None:
        """Count a subscription."""
        self._readers.update(names)
        self._lists[names] += 1
        self._clients[client] += len(names)

    def remove(self, names: tuple[str, ...], client: str) -> list[str]:
        """Stop counting a subscription; return the names that are without subscriptions now."""
        self._readers.subtract(names)
        self._lists[names] -= 1
        self._clients[client] -= len(names)
        left = [name for name in names if not self._readers[name]]
        for name in left:
            del self._readers[name]
        if not self._lists[names]:
            del self._lists[names]
        if not self._clients[client]:
            del self._clients[client]
        return left


class PublishRate:
    """The number of events that each client may publish per second, with bursts of as many."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        #: By client, the least recent publisher first: its remaining events at a time.
        self._left: dict[str, tuple[float, float]] = {}

    def spend(self, client: str) -> None:
        """Count one event; raises Problem 429 with Retry-After if it exceeds the rate."""
        rate = self._rate
        if rate is None:
            return
        now, most = time.monotonic(), max(rate, 1.0)
        left, since = self._left.pop(client, (most, now))
        left = min(left + (now - since) * rate, most)
        self._left[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._left) > MAX_CLIENTS:
            del self._left[next(iter(self._left))]
        if left < 1:
            seconds = math.ceil((1 - left) / rate)
            headers = {"Retry-After": str(seconds)}
            raise Problem(429, "Too many events.", type=TOO_MANY_EVENTS, headers=headers)
