"""What Redis keeps, for the hub: the history of topics, and what was missed of the link.

There is one way to heal, after a broken link, for an event that lacks the one before it, and to be
sure every CHECK_SECONDS: find the topics with events behind the number up to which nothing was
missed, and read what the hub lacks of them. That costs what was missed, not what is followed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from ..ring import Event, History
from ..settings import RealtimeSettings
from ..topics import Position, parts_of
from .redis_reading import Reading, Row
from .redis_scripts import Scripts, unavailable

if TYPE_CHECKING:
    from ..hub import Hub

#: Events that are delivered before the loop has its turn.
EVENTS_AT_ONCE = 500


class Kept:
    """How far the hub has heard of what Redis keeps; `raw` is a client without callbacks."""

    def __init__(
        self, hub: "Hub", scripts: Scripts, raw: Redis, settings: RealtimeSettings
    ) -> None:
        self._hub = hub
        self._scripts = scripts
        self._raw = raw
        self._settings = settings
        #: The newest event, the number up to which everything was delivered, and the one up to
        #: which it is certain that nothing was missed.
        self._newest: Event | None = None
        self._seen = self._checked = 0

    async def look(self) -> Position:
        """Return the position of Redis, of which the hub has heard by then."""
        seen = Position(self._hub.epoch, self._hub.top)
        position = await self._scripts.look(seen, self._newest)
        self.heard(position)
        return position

    async def deliver(self, position: Position, event: Event) -> None:
        """Deliver what came on the link, behind a position."""
        self.heard(position)
        if not self._hub.deliver(event):
            await self.heal()
        elif event.sequence > self._seen:
            self._newest, self._seen = event, event.sequence

    def _reading(self, position: Position) -> Reading:
        return Reading(self._raw, self._settings, position.epoch)

    def heard(self, position: Position) -> None:
        if position.epoch != self._hub.epoch:
            self._newest, self._seen, self._checked = None, position.sequence, position.sequence
        self._hub.heard(position)

    async def history(
        self, name: str, subscribe: Callable[[], Awaitable[None]]
    ) -> dict[str, History]:
        """Return what is kept, by topic; `subscribe` is called after each reading."""
        position = await self.look()
        reading = self._reading(position)
        floor, topics = 0, [name]
        if name.endswith(".*"):
            topics = await reading.named(name[:-1])
            floor = reading.forgotten
        found: dict[str, History] = {}
        while True:
            await subscribe()
            # Without what the hub has; meanwhile it may have let go of some of that.
            lacking = set(topics) - found.keys() - self._hub.followed().keys()
            if not lacking:
                if self._hub.epoch != position.epoch:
                    raise unavailable()  # Its numbers would hide those of the new epoch.
                return {name: History(floor, []), **found}
            lasts = await reading.lasts([topic for topic in topics if topic in lacking])
            behind = dict.fromkeys(lasts, 0)
            rows, unread = await reading.events(behind, position.sequence, reading.most)
            found |= {topic: History(*row) for topic, row in rows.items()}
            floor = max(floor, reading.forgotten, *(lasts[topic] for topic in unread))
            # Others of them were forgotten, or are told as gone.
            topics = [topic for topic in topics if topic in found or topic not in lacking]

    async def heal(self) -> None:
        """Deliver what was missed of all topics in one order, and tell a gap where it is gone."""
        hub, seen, epoch = self._hub, self._seen, self._hub.epoch
        position = await self.look()
        if position.epoch != epoch:
            return  # Everybody was told that.
        reading, known = self._reading(position), set[str]()
        after: dict[str, int] = {}
        async for changed in reading.changed(self._checked):
            known.update(changed)
            after.update(self._behind(changed))
        until = reading.top
        rows, unread = await reading.events(after, until)
        if hub.epoch != epoch:
            return
        # All topics that Redis knows are above the forgotten ones, so they are among the known.
        if reading.forgotten > seen:
            for name in hub.followed().keys() - known:
                hub.skip(name, reading.forgotten)
        for topic in unread:
            self._skip(topic, until)
        for topic, row in rows.items():
            # A topic's number may be lower than what was seen when it was forgotten meanwhile; but
            # what comes behind newer events of other topics, some have read past.
            late = [event.sequence for event in row.events if event.sequence <= seen]
            gone = late[-1] if late else row.floor
            if late or gone > max(after[topic], seen):
                self._skip(topic, gone)
        await self._deliver(rows, epoch)
        if hub.epoch == epoch:
            self._seen = self._checked = until

    def _behind(self, changed: dict[str, int]) -> dict[str, int]:
        """Return the topics of which the hub lacks events, with the number that it has."""
        followed, found = self._hub.followed(), {}
        for topic, last in changed.items():
            numbers = [followed[name] for name in parts_of(topic) if name in followed]
            number = followed.get(topic, max(numbers, default=last))
            if number < last:
                found[topic] = number
        return found

    def _skip(self, topic: str, gone: int) -> None:
        followed = self._hub.followed()
        for name in [topic] if topic in followed else parts_of(topic):
            self._hub.skip(name, gone)

    async def _deliver(self, rows: dict[str, Row], epoch: str) -> None:
        missed = chain.from_iterable(row.events for row in rows.values())
        for number, event in enumerate(sorted(missed, key=attrgetter("sequence")), 1):
            self._hub.deliver(event)
            self._newest = event
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
                if self._hub.epoch != epoch:
                    return  # Another task has heard of it.
