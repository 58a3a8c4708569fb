"""The broker of one process: events are numbered here, and gone when the process is."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ...settings import RealtimeSettings
from ...streaming import repeating
from ..messages import Message
from ..ring import Event, History, Ring
from ..topics import Position, covers
from . import Once

if TYPE_CHECKING:
    from ..hub import Hub

#: Idempotency keys that are remembered.
MAX_KEYS = 10_000
#: Seconds between two looks for events that are too old.
EXPIRE_SECONDS = 10.0


@asynccontextmanager
async def open_backend(hub: "Hub", settings: RealtimeSettings) -> AsyncGenerator["MemoryBackend"]:
    backend = MemoryBackend(hub, settings)
    async with repeating(EXPIRE_SECONDS, backend.expire):
        yield backend


class MemoryBackend:
    """Numbers events over all topics; a new epoch at every start tells that old ones are gone."""

    up = True

    def __init__(self, hub: "Hub", settings: RealtimeSettings) -> None:
        self._hub = hub
        self._settings = settings
        #: By topic, the one first that was published on longest ago.
        self._topics: dict[str, Ring] = {}
        self._size = 0
        #: The highest number among the events of topics that were forgotten.
        self._forgotten = 0
        self._published: dict[str, tuple[str, str]] = {}
        hub.heard(Position(secrets.token_hex(4), 0))

    async def publish(self, topic: str, message: Message, once: Once | None) -> str:
        if once is not None and (known := self._published.get(once.key)) is not None:
            once.refuse_other(known[0])
            return known[1]
        position = Position(self._hub.epoch, self._hub.top + 1)
        ring = self._topics.pop(topic, None) or self._hub.make_ring(topic, self._forgotten)
        self._topics[topic] = ring
        event = Event(str(position), position.sequence, 0, topic, message, time.time())
        self._size -= ring.size
        ring.append(event)
        self._size += ring.size
        while len(self._topics) > 1 and (
            len(self._topics) > self._settings.max_topics
            or self._size > self._settings.history_total
        ):
            self._forget(next(iter(self._topics)))
        if once is not None:
            self._published[once.key] = (once.fingerprint, event.id)
            if len(self._published) > MAX_KEYS:
                del self._published[next(iter(self._published))]
        self._hub.deliver(event)
        return event.id

    async def history(self, name: str) -> dict[str, History]:
        now = time.time()
        found = {name: History(self._forgotten, [])}
        for topic, ring in self._topics.items():
            if covers(name, topic):
                ring.expire(now)
                found[topic] = ring.history()
        return found

    async def top(self) -> Position:
        return Position(self._hub.epoch, self._hub.top)

    async def subscribe(self, name: str) -> None:
        """Nothing to do: the hub is told of everything."""

    async def unsubscribe(self, name: str) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def expire(self) -> None:
        """Let go the events that are too old, and the topics that have none."""
        now = time.time()
        for topic, ring in tuple(self._topics.items()):
            self._size -= ring.size
            ring.expire(now)
            self._size += ring.size
            if not ring.size:
                self._forget(topic)

    def _forget(self, topic: str) -> None:
        ring = self._topics.pop(topic)
        self._size -= ring.size
        self._forgotten = max(self._forgotten, ring.last)
        self._hub.forget(topic)
