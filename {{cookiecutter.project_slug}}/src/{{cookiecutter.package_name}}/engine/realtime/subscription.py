"""A subscription: what somebody follows, and how far they have read."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ..kernel.exchange import SlowClient
from ..kernel.kernel import BOUNDS
from .ring import Event, Evicted, Ring
from .rings import Merged, Replay
from .topics import Position

if TYPE_CHECKING:
    from .hub import Hub

#: Subscribers that are sent an event before the loop looks at anything else: some milliseconds.
WAKE_AT_ONCE = 500
#: About how much is sent at once: what a stalled client holds of it is a copy of its own.
MESSAGE_SIZE = 64 << 10


class Reset(NamedTuple):
    """A gap: events were missed, for a reason ("epoch", "evicted"), up to the position `top`."""

    topic: str
    reason: str
    top: str


class Subscription:
    """A position in a ring; `wake` is called when something lies behind it."""

    __slots__ = (
        "_caught_up", "_gap", "client", "hub", "names", "position", "replay", "ring", "wake",
    )  # fmt: skip

    def __init__(
        self, hub: "Hub", names: tuple[str, ...], ring: Ring, position: int, client: str = ""
    ) -> None:
        self.hub = hub
        self.names = names
        self.ring = ring
        self.position = position
        self.client = client
        self.wake: Callable[[], None] = _nobody
        #: While it reads what it has missed.
        self.replay: Replay | None = None
        self._gap: str | None = None
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
        self._gap, self.replay = reason, None
        self.position = self.hub.top
        self.wake()

    def take(self) -> tuple[Reset | None, list[Event]]:
        """Return what to tell of a gap, if there is one, and the next events.

        The position moves behind the events; a gap is told once, with the position after it.
        Raises SlowClient when the subscriber fell behind what its topics keep, and is not to be
        told but to come back.
        """
        try:
            events = self._next()
        except Evicted:
            if self._caught_up and self.ring.disconnects:
                raise SlowClient("behind the history of the topic") from None
            events, self._gap, self.replay = [], "evicted", None
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
            if self.replay is not None:
                self._count(self.replay, sum(each.weight for each in events))
        else:
            self._caught_up = True
        return reset, events

    @property
    def has_had_enough(self) -> bool:
        """Whether it has got as many missed events as one request may; the client comes back."""
        return self.replay is not None and self.replay.left <= 0

    def close(self) -> None:
        self.hub.closed(self)

    def _next(self) -> list[Event]:
        ring = self.ring
        if self.position >= ring.floor or not isinstance(ring, Merged):
            return ring.after(self.position)
        if self.replay is None:
            self.replay = Replay(inf, ring.last)  # It is slow, and has not come back.
        return self.replay.take(ring, self.position, MESSAGE_SIZE)

    def _count(self, replay: Replay, weight: int) -> None:
        replay.left -= weight
        if self.position >= replay.until:
            self.replay = None  # Whatever comes now is new.
        elif replay.left <= 0:
            BOUNDS["realtime.max_replay"] += 1


def wake_all(subscriptions: tuple[Subscription, ...]) -> None:
    """Wake some at once and the others when the loop has looked at everything else."""
    for subscription in subscriptions[:WAKE_AT_ONCE]:
        subscription.wake()
    if rest := subscriptions[WAKE_AT_ONCE:]:
        asyncio.get_running_loop().call_soon(wake_all, rest)


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
