"""Subscriptions: the topics that a client follows, and the position that it has read up to."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from ..kernel.exchange import SlowClient
from ..kernel.kernel import BOUNDS
from .ring import Event, Evicted, Ring
from .store import Merged, Replay, Store
from .topics import Position

#: About the number of bytes that are sent at once: a stalled client holds a copy of them.
MESSAGE_SIZE = 64 << 10


@dataclass(slots=True)
class Counters:
    """Counts that only grow."""

    delivered: int = 0
    published: int = 0
    #: Subscriptions by how they began ("fresh", "replayed"), and reported gaps ("reset").
    resumes: Counter[str] = field(default_factory=Counter)


class Reset(NamedTuple):
    """A gap: events were missed, for a reason ("epoch", "evicted"), up to the position `top`."""

    topic: str
    reason: str
    top: str


def _ignore() -> None:
    """Do nothing: the subscription has no channel yet."""


@dataclass(slots=True, eq=False)
class Subscription:
    """A position in a ring; `wake` is called when there are events after it."""

    names: tuple[str, ...]
    ring: Ring
    position: int
    _store: Store
    _counters: Counters
    #: Called once, when the subscription is closed.
    _closed: Callable[[], None]
    wake: Callable[[], None] = _ignore
    #: Set while the subscription reads events that it has missed.
    replay: Replay | None = None
    #: Topics under whose names the events of their owners' parts are returned.
    personal: Collection[str] = ()
    _gap: str | None = None
    _caught_up: bool = False

    def __post_init__(self) -> None:
        self.ring.subscriptions.add(self)

    @property
    def event_id(self) -> str:
        """The id to resume from."""
        return str(Position(self._store.epoch, self.position))

    @property
    def several(self) -> bool:
        """Whether its events can have several topics."""
        return len(self.names) > 1 or self.names[0].endswith(".*")

    @property
    def lag(self) -> int:
        return max(self.ring.last - self.position, 0)

    def report_gap(self, reason: str) -> None:
        """Make the next `take` return a reset, and continue with events from now on."""
        self._gap, self.replay = reason, None
        self.position = self._store.top
        self.wake()

    def take(self) -> tuple[Reset | None, list[Event]]:
        """Return a reset if there is a gap, and the next events.

        The position moves past the events; a gap is reported once, with the position after it.
        Raises SlowClient if events that the client lacks were evicted, for topics with the policy
        `disconnect`.
        """
        try:
            events = self._next()
        except Evicted:
            if self._caught_up and self.ring.disconnects:
                raise SlowClient("behind the history of the topic") from None
            events, self._gap, self.replay = [], "evicted", None
            self.position = max(self._store.top, self.ring.last)
        gap = self.take_gap()
        reset = Reset(",".join(self.names), gap, self.event_id) if gap else None
        if len(events) > 1:
            events = events[: _share(events)]
        if events:
            self.position = events[-1].sequence
            self._counters.delivered += len(events)
            if self.replay is not None:
                self._count(self.replay, sum(each.weight for each in events))
        else:
            self._caught_up = True
        if self.personal:
            events = [self._as_asked(event) for event in events]
        return reset, events

    def take_gap(self) -> str | None:
        """Return the reason of a gap, which the caller reports."""
        gap, self._gap = self._gap, None
        if gap is not None:
            self._counters.resumes["reset"] += 1
        return gap

    @property
    def is_exhausted(self) -> bool:
        """Whether the response has reached its limit of missed events; the client reconnects."""
        return self.replay is not None and self.replay.left <= 0

    def close(self) -> None:
        """Unsubscribe; may be called again."""
        if self in self.ring.subscriptions:
            self.ring.subscriptions.discard(self)
            self._closed()

    def _next(self) -> list[Event]:
        ring = self.ring
        if not isinstance(ring, Merged):
            return ring.after(self.position)
        if self.replay is None:
            if (events := ring.latest_after(self.position)) is not None:
                return events
            self.replay = Replay(inf, ring.last)  # A slow client, which did not reconnect.
        return self.replay.take(ring, self.position, MESSAGE_SIZE)

    def _as_asked(self, event: Event) -> Event:
        for topic in self.personal:
            if event.topic.startswith(f"{topic}."):
                # Without the encodings, which have the other name.
                return replace(event, topic=topic, ledger=None, frames=None)
        return event

    def _count(self, replay: Replay, weight: int) -> None:
        replay.left -= weight
        if self.position >= replay.until:
            self.replay = None  # All further events are new.
        elif replay.left <= 0:
            BOUNDS["realtime.max_replay"] += 1


def _share(events: list[Event]) -> int:
    """Return how many of the events fit in one message; `take` returns the others later."""
    size = 0
    for number, event in enumerate(events, 1):
        size += len(event.message.data)
        if size >= MESSAGE_SIZE:
            return number
    return len(events)
