"""The broker of one process: events are numbered here, and gone when the process is.

The rings of the hub are all that is kept: there is no second history.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ...kernel.kernel import BOUNDS
from ..messages import Message
from ..ring import Event, History
from ..settings import RealtimeSettings
from ..topics import Position
from . import Once

if TYPE_CHECKING:
    from ..hub import Hub

#: The part of the memory for history that idempotency keys may take, and the bytes of one without
#: its text.
KEYS_SHARE, KEY_COST = 8, 600


@asynccontextmanager
async def open_backend(hub: "Hub", settings: RealtimeSettings) -> AsyncGenerator["MemoryBackend"]:
    yield MemoryBackend(hub, settings)


class MemoryBackend:
    """Numbers events over all topics; a new epoch at every start tells that old ones are gone."""

    up = True

    def __init__(self, hub: "Hub", settings: RealtimeSettings) -> None:
        self._hub = hub
        #: What each key was used for, and the id that it has, the oldest first.
        self._published: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._max_keys = settings.max_keys
        self._keys_size, self._keys_limit = 0, settings.history_total // KEYS_SHARE
        hub.heard(Position(secrets.token_hex(4), 0))

    async def publish(self, topic: str, message: Message, once: Once | None) -> str:
        if once is not None and (known := self._published.get(once.key)) is not None:
            once.refuse_other(known[0])
            return known[1]
        position = Position(self._hub.epoch, self._hub.top + 1)
        event = Event(str(position), position.sequence, 0, topic, message, time.time())
        if once is not None:
            self._remember(once, event.id)
        self._hub.deliver(event)
        return event.id

    async def history(self, name: str) -> dict[str, History]:
        """Return what the hub has of a topic; it has the topics of a prefix already."""
        return {name: self._hub.history(name)}

    async def top(self) -> Position:
        return Position(self._hub.epoch, self._hub.top)

    async def subscribe(self, name: str) -> None:
        """Nothing to do: the hub is told of everything."""

    async def unsubscribe(self, name: str) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def _remember(self, once: Once, event_id: str) -> None:
        self._published[once.key] = (once.fingerprint, event_id)
        self._count(KEY_COST + len(once.key))
        while len(self._published) > self._max_keys or self._keys_size > self._keys_limit:
            BOUNDS["realtime.max_keys"] += 1
            key, _ = self._published.popitem(last=False)
            self._count(-KEY_COST - len(key))

    def _count(self, size: int) -> None:
        self._keys_size += size
        self._hub.ledger.size += size
