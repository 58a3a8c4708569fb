"""A subscription: what somebody follows, and how far they have read."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..streaming import SlowClient
from .ring import Event, Evicted, Ring
from .topics import Position

if TYPE_CHECKING:
    from .hub import Hub

#: About how much is sent at once: what a stalled client holds of it is a copy of its own.
MESSAGE_SIZE = 64 << 10


class Reset(NamedTuple):
    """A gap: events were missed, for a reason ("epoch", "evicted"), up to the position `top`."""

    topic: str
    reason: str
    top: str


class Subscription:
    """A position in a ring; `wake` is called when something lies behind it."""

    __slots__ = ("_caught_up", "_gap", "hub", "names", "position", "ring", "wake")

    def __init__(
        self, hub: "Hub", names: tuple[str, ...], ring: Ring, position: int, gap: str | None = None
    ) -> None:
        self.hub = hub
        self.names = names
        self.ring = ring
        self.position = position
        self.wake: Callable[[], None] = _nobody
        self._gap = gap
        self._caught_up = False

    @property
    def event_id(self) -> str:
        """The id to come back with."""
        return str(Position(self.hub.epoch, self.position))

    @property
    def several(self) -> bool:
        """Whether it is of more than one topic."""
        return len(self.names) > 1 or self.names[0].endswith(".*")

    @property
    def lag(self) -> int:
        """How far the ring is ahead, in numbers over all topics."""
        return max(self.ring.last - self.position, 0)

    def tell_gap(self, reason: str) -> None:
        """Have the subscriber told that it has missed something, and go on from now."""
        self._gap = reason
        self.position = self.hub.top
        self.wake()

    def take(self) -> tuple[Reset | None, list[Event]]:
        """Return what to tell of a gap, if there is one, and the next events.

        The position moves behind the events; a gap is told once, with the position after it.
        Raises SlowClient when the subscriber fell behind what its topics keep, and is not to be
        told but to come back.
        """
        try:
            events = self.ring.after(self.position)
        except Evicted:
            if self._caught_up and self.ring.disconnects:
                raise SlowClient("behind the history of the topic") from None
            events, self._gap = [], "evicted"
            self.position = max(self.hub.top, self.ring.last)
        reset = None
        if self._gap is not None:
            reset = Reset(",".join(self.names), self._gap, self.event_id)
            self.hub.counters.resumes["reset"] += 1
            self._gap = None
        if len(events) > 1:
            events = events[: _share(events)]
        if events:
            self.position = events[-1].sequence
            self.hub.counters.delivered += len(events)
        else:
            self._caught_up = True
        return reset, events

    def close(self) -> None:
        self.ring.subscriptions.discard(self)


def _nobody() -> None:
    """Nobody waits yet."""


def _share(events: list[Event]) -> int:
    """Return how many events go out in one message; the subscriber comes back for the others."""
    size = 0
    for number, event in enumerate(events, 1):
        size += len(event.message.data)
        if size >= MESSAGE_SIZE:
            return number
    return len(events)
