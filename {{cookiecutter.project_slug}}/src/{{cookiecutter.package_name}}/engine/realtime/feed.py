"""Several subscriptions of one client, read as one: in order, and each event once.

In order, so that the last position that a client was told is good for all of them.
"""

from collections.abc import Callable
from functools import partial
from math import inf

from ..kernel.kernel import BOUNDS
from ..kernel.problem import INVALID, Problem
from .hub import Hub
from .ring import Event
from .subscription import Reset, Subscription
from .topics import MAX_TOPICS, Position, covers


class _Followed:
    """One topic or prefix."""

    __slots__ = ("missed", "name", "reached", "since", "subscription", "waiting")

    def __init__(self, name: str, subscription: Subscription) -> None:
        self.name = name
        self.subscription = subscription
        #: The events behind `since` and up to `reached` have been handed out.
        self.since = self.reached = subscription.position
        #: The number up to which it reads what it has missed; the feed counts that, over all.
        self.missed = -1.0
        if (replay := subscription.replay) is not None:
            self.missed, replay.left = replay.until, inf
        #: What comes next, the last first: with its position, and behind the event there.
        self.waiting: list[tuple[int, bool, Event | bytes]] = []

    def fetch(self, tell: Callable[[Reset], bytes]) -> bool:
        """Have something waiting, if there is anything."""
        if not self.waiting:
            reset, events = self.subscription.take()
            self.waiting = [(event.sequence, False, event) for event in reversed(events)]
            if reset is not None:
                self.since = Position.parse(reset.top).sequence
                self.waiting.append((self.since, True, tell(reset)))
        return bool(self.waiting)

    def has_handed_out(self, event: Event) -> bool:
        return self.since < event.sequence <= self.reached and covers(self.name, event.topic)


class Feed:
    """What one client follows; `wake` is called when there is something to take."""

    __slots__ = (
        "_client", "_encode", "_followed", "_hub", "_left", "_tell", "_wake", "_woken",
        "has_had_enough",
    )  # fmt: skip

    def __init__(
        self,
        hub: Hub,
        wake: Callable[[], None],
        encode: Callable[[Event], bytes],
        tell: Callable[[Reset], bytes],
        client: str = "",
    ) -> None:
        self._hub = hub
        self._client = client
        self._wake = wake
        self._encode = encode
        self._tell = tell
        self._followed: dict[str, _Followed] = {}
        #: Missed events that the connection may still be sent, and whether there are more of them.
        self._left = hub.settings.max_replay
        self.has_had_enough = False
        #: Those that may have something.
        self._woken: set[_Followed] = set()

    async def follow(
        self,
        names: tuple[str, ...],
        last_event_id: str | None,
        confirm: Callable[[str], bytes],
    ) -> bool:
        """Follow topics that are not followed yet; return whether there were any.

        `confirm` makes the frame that says so, from the position behind which they begin. Raises
        Problem 422 for more than MAX_TOPICS in all, and what the hub raises; then none is followed.
        """
        new = [name for name in names if name not in self._followed]
        if len(self._followed) + len(new) > MAX_TOPICS:
            raise Problem(422, f"A connection follows at most {MAX_TOPICS} topics.", type=INVALID)
        opened: list[_Followed] = []
        try:
            for name in new:
                subscription = await self._hub.subscribe((name,), last_event_id, self._client)
                opened.append(_Followed(name, subscription))
        except BaseException:
            for followed in opened:
                followed.subscription.close()
            raise
        for followed in opened:
            self._followed[followed.name] = followed
            followed.subscription.wake = partial(self._wake_for, followed)
        self._woken.update(opened)
        if opened:
            first = min(opened, key=lambda followed: followed.since)
            first.waiting = [(first.since, True, confirm(first.subscription.event_id))]
        return bool(opened)

    def leave(self, names: list[str]) -> None:
        """Follow topics no more."""
        for name in names:
            if (followed := self._followed.pop(name, None)) is not None:
                followed.subscription.close()
                self._woken.discard(followed)

    def close(self) -> None:
        self.leave(list(self._followed))

    def take(self) -> bytes:
        """Return the next frame; empty when there is nothing, or enough. Raises SlowClient."""
        while not self.has_had_enough and (followed := self._next()) is not None:
            number, _, item = followed.waiting[-1]
            if not isinstance(item, bytes) and not self._may_have(number, followed):
                break
            followed.reached = number
            followed.waiting.pop()
            if isinstance(item, bytes):
                return item
            if not self._is_repeated(item, followed):
                if number <= followed.missed:
                    self._left -= item.weight
                return item.frame(self._encode)
        return b""

    def _may_have(self, number: int, followed: _Followed) -> bool:
        if self._left > 0 or number > followed.missed:
            return True
        BOUNDS["realtime.max_replay"] += 1
        self.has_had_enough = True
        return False

    def _next(self) -> _Followed | None:
        self._woken = {followed for followed in self._woken if followed.fetch(self._tell)}
        return min(self._woken, key=lambda each: each.waiting[-1][:2], default=None)

    def _is_repeated(self, event: Event, followed: _Followed) -> bool:
        """Whether another subscription, which overlaps, has handed out the event."""
        return len(self._followed) > 1 and any(
            each is not followed and each.has_handed_out(event) for each in self._followed.values()
        )

    def _wake_for(self, followed: _Followed) -> None:
        self._woken.add(followed)
        self._wake()
