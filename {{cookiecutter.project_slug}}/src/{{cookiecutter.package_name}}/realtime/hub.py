"""The hub: one per process, it knows who is subscribed to what and wakes them.

Nothing is queued per subscriber: an event goes into the ring of its topic, and every channel takes
what lies behind its own position, at once or when its client can take more.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..settings import RealtimeSettings
from ..streaming import Channel
from .backends.memory import MemoryBackend
from .messages import Message
from .ring import Event, Evicted, Ring

#: About how much is sent at once: what a stalled client holds of it is a copy of its own.
MESSAGE_SIZE = 64 << 10

_POSITION = re.compile(r"([0-9a-z]+)-(\d{1,18})", re.ASCII)


@asynccontextmanager
async def open_hub(settings: RealtimeSettings) -> AsyncGenerator["Hub"]:
    """Open the hub of this process."""
    yield Hub(settings)


class Topic:
    """The latest events of a topic and the channels that are subscribed to it."""

    __slots__ = ("channels", "ring")

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.channels: set[Channel] = set()


class Hub:
    """Publishes messages and holds the subscriptions of this process."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self.settings = settings
        self._backend = MemoryBackend(self._deliver)
        self._topics: dict[str, Topic] = {}
        #: The highest number among the events of topics that were forgotten.
        self._forgotten = 0

    async def publish(self, topic: str, message: Message) -> str:
        """Publish a message and return its id."""
        return self.event_id(await self._backend.publish(topic, message))

    def event_id(self, sequence: int) -> str:
        """Return the id of an event: the epoch tells apart what two runs have numbered alike."""
        return f"{self._backend.epoch}-{sequence}"

    def subscribe(self, name: str, last_event_id: str | None) -> "Subscription":
        """Return a subscription from behind `last_event_id`, or from now on when that is None."""
        topic = self._topic(name)
        top = self._backend.top
        if last_event_id is None:
            return Subscription(self, name, topic, top)
        match = _POSITION.fullmatch(last_event_id)
        if match is None or match[1] != self._backend.epoch or int(match[2]) > top:
            return Subscription(self, name, topic, top, gap="epoch")
        return Subscription(self, name, topic, int(match[2]))

    @property
    def top(self) -> int:
        """The number of the newest event of all topics."""
        return self._backend.top

    def _deliver(self, name: str, sequence: int, message: Message) -> None:
        topic = self._topic(name)
        topic.ring.append(sequence, message)
        for channel in tuple(topic.channels):
            channel.wake()

    def _topic(self, name: str) -> Topic:
        """Return a topic, and make it the last to be forgotten."""
        topic = self._topics.pop(name, None)
        if topic is None:
            self._forget()
            limits = self.settings
            topic = Topic(Ring(self._forgotten, limits.history_size, limits.history_bytes))
        self._topics[name] = topic
        return topic

    def _forget(self) -> None:
        if len(self._topics) < self.settings.max_topics:
            return
        for name, topic in self._topics.items():
            if not topic.channels:
                del self._topics[name]
                self._forgotten = max(self._forgotten, topic.ring.last)
                return


class Subscription:
    """A position in the ring of a topic."""

    __slots__ = ("_gap", "_hub", "_name", "_topic", "position")

    def __init__(
        self, hub: Hub, name: str, topic: Topic, position: int, gap: str | None = None
    ) -> None:
        self._hub = hub
        self._name = name
        self._topic = topic
        self.position = position
        #: Why events before the position may be missing: "epoch", "evicted", or None.
        self._gap = gap

    @property
    def event_id(self) -> str:
        return self._hub.event_id(self.position)

    def attach(self, channel: Channel) -> None:
        """Wake this channel for every new event of the topic."""
        self._topic.channels.add(channel)

    def detach(self, channel: Channel) -> None:
        self._topic.channels.discard(channel)

    def take(self) -> tuple[dict[str, str] | None, list[Event]]:
        """Return what to tell of a gap, if there is one, and the events behind the position.

        The position moves behind the events; a gap is told once, with the position after it.
        """
        try:
            events = self._topic.ring.after(self.position)
        except Evicted:
            events = []
            self._gap = "evicted"
            self.position = self._hub.top
        reset = None
        if self._gap is not None:
            reset = {"topic": self._name, "reason": self._gap, "top": self.event_id}
            self._gap = None
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
