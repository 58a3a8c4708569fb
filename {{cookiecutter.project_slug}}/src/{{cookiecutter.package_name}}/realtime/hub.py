"""The hub: one per process, it knows who is subscribed to what and wakes them.

Nothing is queued per subscriber: an event goes into the ring of its topic, and every channel takes
what lies behind its own position, at once or when its client can take more.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..settings import RealtimeSettings
from .backends.memory import MemoryBackend
from .messages import Message
from .ring import Event, Evicted, Ring

#: About how much is sent at once: what a stalled client holds of it is a copy of its own.
MESSAGE_SIZE = 64 << 10

_POSITION = re.compile(r"([0-9a-z]+)-(\d{1,18})", re.ASCII)


@asynccontextmanager
async def open_hub(settings: RealtimeSettings) -> AsyncGenerator["Hub"]:
    yield Hub(settings)


class Hub:
    """Publishes messages and holds the subscriptions of this process."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self.settings = settings
        self.backend = MemoryBackend(self._deliver)
        self._topics: dict[str, Ring] = {}
        #: The highest number among the events of topics that were forgotten.
        self._forgotten = 0

    async def publish(self, topic: str, message: Message) -> str:
        return self.event_id(await self.backend.publish(topic, message))

    def event_id(self, sequence: int) -> str:
        """Return the id of an event: the epoch tells apart what two runs have numbered alike."""
        return f"{self.backend.epoch}-{sequence}"

    def subscribe(self, name: str, last_event_id: str | None) -> "Subscription":
        """Return a subscription from behind `last_event_id`, or from now on when that is None."""
        topic = self._topic(name)
        top = self.backend.top
        if last_event_id is None:
            return Subscription(self, name, topic, top)
        match = _POSITION.fullmatch(last_event_id)
        if match is None or match[1] != self.backend.epoch or int(match[2]) > top:
            return Subscription(self, name, topic, top, gap="epoch")
        return Subscription(self, name, topic, int(match[2]))

    def _deliver(self, name: str, sequence: int, message: Message) -> None:
        topic = self._topic(name)
        topic.append(sequence, message)
        for channel in tuple(topic.channels):
            channel.wake()

    def _topic(self, name: str) -> Ring:
        """Return a topic, and make it the last to be forgotten."""
        topic = self._topics.pop(name, None)
        if topic is None:
            self._forget()
            limits = self.settings
            topic = Ring(self._forgotten, limits.history_size, limits.history_bytes)
        self._topics[name] = topic
        return topic

    def _forget(self) -> None:
        if len(self._topics) < self.settings.max_topics:
            return
        for name, topic in self._topics.items():
            if not topic.channels:
                del self._topics[name]
                self._forgotten = max(self._forgotten, topic.last)
                return


@dataclass(slots=True)
class Subscription:
    """A position in the ring of a topic."""

    hub: Hub
    name: str
    topic: Ring
    position: int
    #: Why events before the position may be missing: "epoch", "evicted", or None.
    gap: str | None = None

    @property
    def event_id(self) -> str:
        return self.hub.event_id(self.position)

    def take(self) -> tuple[dict[str, str] | None, list[Event]]:
        """Return what to tell of a gap, if there is one, and the events behind the position.

        The position moves behind the events; a gap is told once, with the position after it.
        """
        try:
            events = self.topic.after(self.position)
        except Evicted:
            events = []
            self.gap = "evicted"
            self.position = self.hub.backend.top
        reset = None
        if self.gap is not None:
            reset = {"topic": self.name, "reason": self.gap, "top": self.event_id}
            self.gap = None
        events = events[: _share(events)]
        if events:
            self.position = events[-1].sequence
        return reset, events


def _share(events: list[Event]) -> int:
    """Return how many events go out in one message; the channel comes back for the others."""
    size = 0
    for number, event in enumerate(events, 1):
        size += len(event.message.data)
        if size >= MESSAGE_SIZE:
            return number
    return len(events)
