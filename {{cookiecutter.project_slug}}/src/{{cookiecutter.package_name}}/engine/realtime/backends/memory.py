"""The broker of one process: it numbers events, and the hub keeps them until the process ends."""

import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ...kernel.kernel import BOUNDS
from ...streams.clock import expiry_time
from ..messages import Message, Once
from ..ring import Event, History
from ..settings import RealtimeSettings
from ..topics import Position
from . import Listener, Published

#: The divisor of the memory for history that gives the share of idempotency keys, and the bytes of
#: a key without its text.
KEYS_SHARE, KEY_COST = 8, 600


@asynccontextmanager
async def open_backend(
    listener: Listener, settings: RealtimeSettings
) -> AsyncGenerator["MemoryBackend"]:
    yield MemoryBackend(listener, settings)


class MemoryBackend:
    """Numbers events over all topics, in a new epoch at each start."""

    up = publishes = True

    def __init__(self, listener: Listener, settings: RealtimeSettings) -> None:
        self._listener = listener
        #: The stored text and the event's id of each idempotency key, the oldest first.
        self._published: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._max_keys = settings.max_keys
        self._keys_size, self._keys_limit = 0, settings.history_total // KEYS_SHARE
        listener.heard(Position(secrets.token_hex(4), 0))

    async def publish(
        self, topic: str, message: Message, once: Once | None, last: int | None = None
    ) -> Published:
        if once is not None and (known := self._published.get(once.key)) is not None:
            return Published(known[1], once.is_mine(known[0]))
        position = Position(self._listener.epoch, self._listener.top + 1)
        event = Event(str(position), position.sequence, 0, topic, message, expiry_time())
        if once is not None:
            self._remember(once, event.id)
        self._listener.deliver(event)
        return Published(event.id, is_mine=True)

    async def history(self, name: str) -> dict[str, History]:
        return {name: History(0, [])}  # The listener has all events.

    async def top(self) -> Position:
        return Position(self._listener.epoch, self._listener.top)

    async def subscribe(self, name: str) -> None:
        """Do nothing: the listener gets all events."""

    async def unsubscribe(self, name: str) -> None:
        """Do nothing."""

    def _remember(self, once: Once, event_id: str) -> None:
        self._published[once.key] = (once.stored, event_id)
        self._count(KEY_COST + len(once.key))
        while len(self._published) > self._max_keys or self._keys_size > self._keys_limit:
            BOUNDS["realtime.max_keys"] += 1
            key, _ = self._published.popitem(last=False)
            self._count(-KEY_COST - len(key))

    def _count(self, size: int) -> None:
        self._keys_size += size
        self._listener.ledger.size += size
