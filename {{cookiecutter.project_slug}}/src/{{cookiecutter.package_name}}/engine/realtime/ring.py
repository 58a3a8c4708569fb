"""The latest events of a topic, which all its subscribers read at their own positions.

A position is the sequence number of the last event that somebody has seen, in one count over all
topics. So a stalled subscriber costs an integer, not a queue, and one position serves a
subscription to many topics.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from operator import attrgetter
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from .messages import Message

if TYPE_CHECKING:
    from .subscription import Subscription

#: Events that a ring hands out at once.
MOST = 1000
#: Bytes of an event without its text, of a ring without its events, and of an event's encodings
#: without their bytes: as measured, and a little more.
EVENT_COST, RING_COST, FRAMES_COST = 800, 1200, 600
#: Events of all topics, the newest ones, of which encodings are kept.
RECENT = 1000
#: The part of the memory for history that encodings may take.
FRAMES_SHARE = 8

#: Characters of data that cost a replay about what an event costs without them.
HEAVY = 8 << 10

_sequence = attrgetter("sequence")


class Evicted(Exception):
    """Events behind this position are gone: a gap, which must be told."""


@dataclass(slots=True, eq=False)
class Event:
    """A numbered message; `previous` is the number of the event before it in its topic."""

    id: str
    sequence: int
    previous: int
    topic: str
    message: Message
    #: When it was published, in seconds since 1970.
    at: float
    #: Bytes that it takes in memory: a text takes up to four for each of its characters.
    cost: int = field(init=False)
    #: The rings that have it.
    holders: int = 0
    ledger: "Ledger | None" = None
    frames: dict[object, bytes] | None = None

    def __post_init__(self) -> None:
        self.cost = EVENT_COST + getsizeof(self.message.data)

    @property
    def weight(self) -> int:
        """What it counts for in a replay, as large ones cost more."""
        return 1 + len(self.message.data) // HEAVY

    def frame(self, encode: Callable[["Event"], bytes]) -> bytes:
        """Return the event in one encoding, made once for all subscribers that are up to date."""
        frames = self.frames
        if frames is not None and (encoded := frames.get(encode)) is not None:
            return encoded
        encoded = encode(self)
        # Of older ones there is a replay, now and then: not worth the memory.
        if self.ledger is not None and self.ledger.newest - self.sequence < RECENT:
            self.ledger.keep(self, encode, encoded)
        return encoded


class Ledger:
    """The bytes that a process keeps of events: each event once, however many rings have it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.newest = 0
        self._frames = 0
        #: Those that have encodings, with their bytes; the oldest are made anew when needed.
        self._framed: OrderedDict[Event, int] = OrderedDict()

    def hold(self, event: Event) -> None:
        """Count an event that a ring has from now on."""
        event.holders += 1
        if event.holders == 1:
            event.ledger = self
            self.newest = event.sequence
            self.size += event.cost

    def release(self, event: Event) -> None:
        """Count an event no more when no ring has it."""
        event.holders -= 1
        if not event.holders:
            event.ledger = None
            self.size -= event.cost
            self._drop(event)

    def keep(self, event: Event, encode: object, encoded: bytes) -> None:
        """Keep an encoding of an event that a ring has."""
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
    """What is kept of a topic: events in order, and the number up to which others are gone."""

    floor: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a ring may hold: events, bytes, and seconds since the oldest was published."""

    events: int
    size: int
    age: float


#: Returns what an event replaces in its ring: the one before with an equal slot; None for nothing.
Slot = Callable[[Event], Hashable]


class Ring:
    """Events in order, within bounds; the newest one is always kept until it is too old."""

    __slots__ = (
        "_before", "_bounds", "_events", "_ledger", "_newest", "_slot", "_was_unread", "began",
        "changed", "disconnects", "floor", "last", "size", "subscriptions",
    )  # fmt: skip

    def __init__(self, floor: int, bounds: Bounds, ledger: Ledger, slot: Slot | None) -> None:
        #: The number up to which events may have been, and are gone.
        self.floor = floor
        #: The number of the newest event, and of the one before it in this ring.
        self.last = self._before = floor
        #: The highest number of all topics when this ring was last changed.
        self.changed = floor
        #: The number behind which it has followed its topic.
        self.began = floor
        #: Who reads it.
        self.subscriptions: set[Subscription] = set()
        #: Whether a subscriber that fell behind is to come back, and not only told so.
        self.disconnects = True
        #: Bytes.
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
        """Add the newest event; the oldest go when there is no room."""
        if self._slot is not None and (slot := self._slot(event)) is not None:
            if (replaced := self._newest.get(slot)) is not None:
                self._remove(bisect_right(self._events, replaced.sequence, key=_sequence) - 1)
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
        """Evict what is too old at `now`, in seconds since 1970."""
        while self._events and self._events[0].at < now - self._bounds.age:
            self.evict()

    def evict(self) -> None:
        """Evict the oldest event."""
        self.floor = self._remove(0).sequence

    def evict_to(self, number: int) -> None:
        """Evict the events up to a number."""
        while self._events and self._events[0].sequence <= number:
            self.evict()

    def load(self, history: History) -> None:
        """Begin with what is kept of the topic elsewhere."""
        self.clear(max(self.floor, history.floor))
        self.began = self.floor
        for event in history.events:
            self.append(event)

    def clear(self, number: int) -> None:
        """Evict everything up to this number."""
        for event in self._events:
            self._ledger.release(event)
        self._events.clear()
        self._newest.clear()
        self.size = 0
        self.floor = self.last = self._before = number

    def unread(self) -> bool:
        """Whether nobody reads it, as when this was last asked."""
        before, self._was_unread = self._was_unread, not self.subscriptions
        return before and self._was_unread

    def history(self) -> History:
        return History(self.floor, self._events.copy())

    def after(self, position: int) -> list[Event]:
        """Return the first events behind a position; raises Evicted when some are gone."""
        if position < self.floor:
            raise Evicted
        if position >= self.last:
            return []
        if self._before <= position:  # The usual case: a subscriber that keeps up.
            return self._events[-1:]
        first = bisect_right(self._events, position, key=_sequence)
        return self._events[first : first + MOST]

    def first_after(self, position: int) -> Event | None:
        """Return the first event behind a position that is kept."""
        if position >= self.last:
            return None
        events = self._events
        if events and events[0].sequence > position:
            return events[0]
        index = bisect_right(events, position, key=_sequence)
        return events[index] if index < len(events) else None

    def _remove(self, index: int) -> Event:
        event = self._events.pop(index)
        if self._slot is not None:
            slot = self._slot(event)
            if self._newest.get(slot) is event:
                del self._newest[slot]
        self.size -= event.cost
        self._ledger.release(event)
        return event
