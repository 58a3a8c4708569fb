"""The latest events of a topic, which all its subscribers read from their own positions.

A position is the sequence number of the last event that a subscriber has received; the numbers
count over all topics. So a stalled subscriber costs an integer, not a queue, and one position
serves a subscription to many topics.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from operator import attrgetter
from sys import getsizeof
from typing import NamedTuple, Protocol

from .messages import Message

#: Events that a ring returns at once.
MOST = 1000
#: Bytes of an event without its text, of a ring without its events, and of an event's encodings
#: without their bytes: measured, and rounded up.
EVENT_COST, RING_COST, FRAMES_COST = 800, 1200, 600
#: The number of newest events, over all topics, whose encodings are kept.
RECENT = 1000
#: The divisor of the memory for history that gives the share of encodings.
FRAMES_SHARE = 8
#: Characters of data that cost a replay about as much as an event without data.
HEAVY = 8 << 10

_sequence = attrgetter("sequence")


class Evicted(Exception):
    """Events after this position were evicted: the subscriber must receive a `reset`."""


@dataclass(slots=True, eq=False)
class Event:
    """A numbered message; `previous` is the number of the event before it in its topic."""

    id: str
    sequence: int
    previous: int
    topic: str
    message: Message
    #: The time of publication, in seconds since 1970.
    at: float
    #: Bytes in memory: a text takes up to four for each of its characters.
    cost: int = field(init=False)
    #: The number of rings that contain it.
    holders: int = 0
    ledger: "Ledger | None" = None
    frames: dict[object, bytes] | None = None

    def __post_init__(self) -> None:
        self.cost = EVENT_COST + getsizeof(self.message.data)

    @property
    def weight(self) -> int:
        """The number of events that it counts as in a replay: large ones cost more."""
        return 1 + len(self.message.data) // HEAVY

    def frame(self, encode: Callable[["Event"], bytes]) -> bytes:
        """Return the event in one encoding, made once for all subscribers that are up to date."""
        frames = self.frames
        if frames is not None and (encoded := frames.get(encode)) is not None:
            return encoded
        encoded = encode(self)
        # Older events are only read by replays, which are too rare to be worth the memory.
        if self.ledger is not None and self.ledger.newest - self.sequence < RECENT:
            self.ledger.keep(self, encode, encoded)
        return encoded


class Ledger:
    """The bytes that a process keeps of events; an event in several rings counts once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.newest = 0
        self._frames = 0
        #: Events that have encodings, with the bytes of these; the oldest are dropped first.
        self._framed: OrderedDict[Event, int] = OrderedDict()

    def hold(self, event: Event) -> None:
        """Count an event that is added to a ring."""
        event.holders += 1
        if event.holders == 1:
            event.ledger = self
            self.newest = event.sequence
            self.size += event.cost

    def release(self, event: Event) -> None:
        """Stop counting an event when the last ring evicts it."""
        event.holders -= 1
        if not event.holders:
            event.ledger = None
            self.size -= event.cost
            self._drop(event)

    def keep(self, event: Event, encode: object, encoded: bytes) -> None:
        """Keep an encoding of an event that is in a ring."""
        cost = len(encoded) if event.frames else FRAMES_COST + len(encoded)
        event.frames = event.frames or {}
        event.frames[encode] = encoded
        self._framed[event] = self._framed.get(event, 0) + cost
        self._frames += cost
        self.size += cost
        while self._frames > self.limit // FRAMES_SHARE:
            self._drop(next(iter(self._framed)))

    def _drop(self, event: Event) -> None:
        cost = self._framed.pop(event, 0)
        self._frames -= cost
        self.size -= cost
        event.frames = None


class History(NamedTuple):
    """The kept events of a topic in order; those up to the number `floor` were evicted."""

    floor: int
    events: list[Event]


class Bounds(NamedTuple):
    """The limits of a ring: events, bytes, and seconds since the oldest was published."""

    events: int
    size: int
    age: float


#: Returns the slot of an event, which replaces the previous event in that slot; None for an event
#: without a slot.
Slot = Callable[[Event], Hashable]

#: The slots by policy.
POLICIES: dict[str, Slot] = {
    "disconnect": lambda event: None,
    "latest": lambda event: event.topic,
    "coalesce": lambda event: (event.topic, event.message.key) if event.message.key else None,
}


class Reader(Protocol):
    """A subscription, as rings see it."""

    names: tuple[str, ...]
    ring: "Ring"

    @property
    def lag(self) -> int:
        """The distance from its position to the newest event of its ring."""

    def wake(self) -> None:
        """Send new events to the client."""

    def report_gap(self, reason: str) -> None:
        """Record that events were missed."""


class Ring:
    """Events in order, within bounds; the newest one is always kept until it is too old."""

    __slots__ = (
        "_before", "_bounds", "_events", "_ledger", "_newest", "_slot", "_was_unread", "began",
        "changed", "disconnects", "floor", "last", "size", "subscriptions",
    )  # fmt: skip

    def __init__(self, floor: int, bounds: Bounds, ledger: Ledger, slot: Slot | None) -> None:
        #: Events up to this number may have existed and are not here.
        self.floor = floor
        #: The numbers of the newest event and of the one before it in this ring.
        self.last = self._before = floor
        #: The highest number over all topics when this ring was last changed.
        self.changed = floor
        #: The number after which the ring has received every event of its topic.
        self.began = floor
        self.subscriptions: set[Reader] = set()
        #: Whether a subscriber that falls behind is disconnected instead of receiving a `reset`.
        self.disconnects = True
        #: Bytes of its events.
        self.size = 0
        self._events: list[Event] = []
        self._bounds = bounds
        self._ledger = ledger
        self._slot = slot
        #: The newest event of each slot.
        self._newest: dict[Hashable, Event] = {}
        self._was_unread = False

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> None:
        """Add the newest event, and evict the oldest ones that exceed the bounds."""
        if self._slot is not None and (slot := self._slot(event)) is not None:
            if (replaced := self._newest.get(slot)) is not None:
                self._remove(self._index(replaced.sequence) - 1)
            self._newest[slot] = event
        self._ledger.hold(event)
        self._events.append(event)
        self._before, self.last = self.last, event.sequence
        self.size += event.cost
        while len(self._events) > self._bounds.events or (
            self.size > self._bounds.size and len(self._events) > 1
        ):
            self.evict()

    def expire(self, now: float) -> None:
        """Evict the events that are too old at `now`, in seconds since 1970."""
        while self._events and self._events[0].at < now - self._bounds.age:
            self.evict()

    def evict(self) -> None:
        """Evict the oldest event."""
        self.floor = self._remove(0).sequence

    def clear(self, number: int) -> None:
        """Evict all events, and continue after this number."""
        for event in self._events:
            self._ledger.release(event)
        self._events.clear()
        self._newest.clear()
        self.size = 0
        self.floor = self.last = self._before = number

    def unread(self) -> bool:
        """Whether the ring has no subscription, and had none at the previous call."""
        before, self._was_unread = self._was_unread, not self.subscriptions
        return before and self._was_unread

    def first(self) -> Event | None:
        """Return the oldest event that is kept."""
        return self._events[0] if self._events else None

    def after(self, position: int) -> list[Event]:
        """Return the first events after a position; raises Evicted if some were evicted."""
        if position < self.floor:
            raise Evicted
        if position >= self.last:
            return []
        if self._before <= position:  # The usual case: a subscriber that keeps up.
            return self._events[-1:]
        first = self._index(position)
        return self._events[first : first + MOST]

    def first_after(self, position: int) -> Event | None:
        """Return the first kept event after a position."""
        index = len(self._events) if position >= self.last else self._index(position)
        return self._events[index] if index < len(self._events) else None

    def get(self, number: int) -> Event | None:
        """Return the event with a number, unless it was evicted or replaced."""
        index = -1 if number == self.last else self._index(number) - 1
        found = self._events[index] if self._events else None
        return found if found is not None and found.sequence == number else None

    def _index(self, position: int) -> int:
        """Return the index of the first event after a position."""
        events = self._events
        if not events or position < events[0].sequence:
            return 0
        return bisect_right(events, position, key=_sequence)

    def _remove(self, index: int) -> Event:
        event = self._events.pop(index)
        if self._slot is not None:
            slot = self._slot(event)
            if self._newest.get(slot) is event:
                del self._newest[slot]
        self.size -= event.cost
        self._ledger.release(event)
        return event
