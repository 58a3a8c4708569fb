"""The latest events of a topic, which all its subscribers read at their own positions.

A position is the sequence number of the last event that somebody has seen, in one count over all
topics. So a stalled subscriber costs an integer, not a queue, and one position serves a
subscription to many topics.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from .messages import Message
from .topics import parts_of

if TYPE_CHECKING:
    from .subscription import Subscription

#: Events that are kept in the order of a list of topics.
MERGED_EVENTS = 100


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
    _frames: dict[object, bytes] = field(default_factory=dict)

    def frame(self, encode: Callable[["Event"], bytes]) -> bytes:
        """Return the event in one encoding, made once for all subscribers."""
        encoded = self._frames.get(encode)
        if encoded is None:
            encoded = self._frames[encode] = encode(self)
        return encoded

    @property
    def cost(self) -> int:
        """About how many bytes it takes: as text, and as a frame with a field per line."""
        data = self.message.data
        return 512 + 2 * len(data) + 8 * data.count("\n")


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

    def __init__(self, floor: int, bounds: Bounds, slot: Slot | None = None) -> None:
        #: The number up to which events may have been, and are gone.
        self.floor = floor
        #: The number of the newest event, and of the one before it in this ring.
        self.last = self._before = floor
        #: Who reads it, and the rings that repeat it.
        self.subscriptions: set[Subscription] = set()
        self.merged: set[Merged] = set()
        #: Whether a subscriber that fell behind is to come back, and not only told so.
        self.disconnects = True
        #: Bytes, about.
        self.size = 0
        self._events: dict[Hashable, Event] = {}
        self._bounds = bounds
        self._slot = slot
        self._was_unread = False

    def append(self, event: Event) -> None:
        """Add the newest event; the oldest go when there is no room."""
        place: Hashable = event.sequence
        if self._slot is not None and (slot := self._slot(event)) is not None:
            place = (slot,)  # In a tuple: no number is equal to it.
            if (replaced := self._events.pop(place, None)) is not None:
                self.size -= replaced.cost
        self._events[place] = event
        self._before, self.last = self.last, event.sequence
        self.size += event.cost
        while len(self._events) > self._bounds.events or (
            self.size > self._bounds.size and len(self._events) > 1
        ):
            self._evict()

    def expire(self, now: float) -> None:
        """Let go what is too old at `now`, in seconds since 1970."""
        while self._events and self._oldest().at < now - self._bounds.age:
            self._evict()

    def load(self, history: History) -> None:
        """Begin with what is kept of the topic elsewhere."""
        self.clear(max(self.floor, history.floor))
        for event in history.events:
            self.append(event)

    def clear(self, number: int) -> None:
        """Let go of everything up to this number."""
        self._events.clear()
        self.size = 0
        self.floor = self.last = self._before = number

    def unread(self) -> bool:
        """Whether nobody reads it, as when this was last asked."""
        before, self._was_unread = self._was_unread, not self.subscriptions
        return before and self._was_unread

    def history(self) -> History:
        return History(self.floor, list(self._events.values()))

    def after(self, position: int) -> list[Event]:
        """Return the events behind a position, oldest first; raises Evicted when some are gone."""
        if position < self.floor:
            raise Evicted
        if position >= self.last:
            return []
        events = self._events.values()
        if self._before <= position:  # The usual case: a subscriber that keeps up.
            return [next(reversed(events))] if events else []
        missed = list(takewhile(lambda event: event.sequence > position, reversed(events)))
        return missed[::-1]

    def _oldest(self) -> Event:
        return next(iter(self._events.values()))

    def _evict(self) -> None:
        oldest = self._events.pop(next(iter(self._events)))
        self.size -= oldest.cost
        self.floor = oldest.sequence


class Merged(Ring):
    """What several topics have had since this ring was made, in one order."""

    def __init__(self, names: tuple[str, ...], bounds: Bounds, slot: Slot | None = None) -> None:
        # A short one, as every list of topics has its own: what it lacks, the members have.
        super().__init__(0, replace(bounds, events=min(bounds.events, MERGED_EVENTS)), slot)
        self.names = names
        self.members: set[Ring] = set()

    def join(self, ring: Ring) -> None:
        """Repeat what another ring gets."""
        self.members.add(ring)
        ring.merged.add(self)

    def after(self, position: int) -> list[Event]:
        """Return the events behind a position; older ones than its own come from the members."""
        if position >= self.floor:
            return super().after(position)
        missed: Iterable[Event] = chain.from_iterable(r.after(position) for r in self.members)
        return sorted(missed, key=attrgetter("sequence"))


class MergedRings(dict[tuple[str, ...], Merged]):
    """By their list, and by each of its names: every client may have a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[str, set[Merged]] = {}

    def add(self, merged: Merged) -> None:
        self[merged.names] = merged
        for name in merged.names:
            self._of.setdefault(name, set()).add(merged)

    def part(self, merged: Merged) -> None:
        """Let go of one."""
        del self[merged.names]
        for name in merged.names:
            self._of[name].discard(merged)
            if not self._of[name]:
                del self._of[name]
        for ring in merged.members:
            ring.merged.discard(merged)

    def of(self, topic: str) -> Iterator[Merged]:
        """Yield those that follow a topic; one that names it more than once comes again."""
        return chain.from_iterable(self._of.get(name, ()) for name in parts_of(topic))
