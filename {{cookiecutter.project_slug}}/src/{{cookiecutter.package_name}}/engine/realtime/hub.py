"""The hub: one per process, it knows who follows what and wakes them.

Nothing is queued per subscriber: an event goes into the ring of its topic, and whoever follows it
takes what lies behind their own position, at once or when their client can take more. Where the
numbers come from, and what is kept of topics that nobody here follows, is the backend's.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf

from ..kernel.kernel import Kernel
from ..kernel.threads import repeating
from .backends import Backend, Once, open_backend
from .counters import Counters, measures_of
from .followers import Followers, Opening
from .messages import Message
from .publishing import PublishRate
from .ring import Event, History, Ring
from .rings import Replay
from .settings import RealtimeSettings
from .store import Store
from .subscription import Subscription, wake_all
from .topics import Position, covers

#: Seconds between two looks for rings that nobody reads any more, and rings that are looked at
#: before the loop looks at anything else.
TIDY_SECONDS, TIDY_SHARE = 10.0, 100


@asynccontextmanager
async def open_hub(settings: RealtimeSettings, kernel: Kernel) -> AsyncGenerator["Hub"]:
    """Open the hub with the broker of the settings, for the lifespan."""
    hub = Hub(settings)
    kernel.checks["broker"] = lambda: hub.backend.up
    kernel.measures += measures_of(hub)
    async with open_backend(hub, settings) as hub.backend, repeating(TIDY_SECONDS, hub.tidy):
        yield hub


class Hub:
    """Publishes messages and holds the subscriptions of this process."""

    backend: Backend

    def __init__(self, settings: RealtimeSettings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.rate = PublishRate(settings.publish_rate)
        self.epoch = ""
        store = self._store = Store(settings)
        self.ledger, self.history = store.ledger, store.history
        self._rings, self._merged, self._own = store.rings, store.merged, store.own
        self._followers = Followers(settings)
        self._opening = Opening()
        self._loading: dict[str, list[Event]] = {}
        self._left: set[str] = set()
        self._leaving: asyncio.Task[None] | None = None

    @property
    def top(self) -> int:
        """The highest number in the epoch, as far as this process has heard."""
        return self._rings.top

    async def publish(self, topic: str, message: Message, once: Once | None = None) -> str:
        """Publish a message, with `once` only the first time; return its id. Raises Problem 503."""
        event_id = await self.backend.publish(topic, message, once)
        self.counters.published += 1
        return event_id

    async def subscribe(
        self, names: tuple[str, ...], last_event_id: str | None = None, client: str = ""
    ) -> Subscription:
        """Follow topics from behind `last_event_id`, or from now on when that is None.

        Raises Problem 503 when a topic has too many subscribers, when too many topics are followed,
        or when the broker must be asked and does not answer; 429 when `client` follows too many.
        """
        self._followers.check(names, client)
        # Counted from here on, so that others cannot take the place, nor have the names dropped.
        self._followers.add(names, client)
        try:
            return await self._subscribe(names, last_event_id, client)
        except BaseException:
            self._unfollow(names, client)
            raise

    async def _subscribe(
        self, names: tuple[str, ...], last_event_id: str | None, client: str
    ) -> Subscription:
        ring = await self._ring_of(names)
        now = max(self.top, ring.last)
        if last_event_id is None:
            subscription = Subscription(self, names, ring, now, client)
            self.counters.resumes["fresh"] += 1
        else:
            position = Position.parse(last_event_id)
            if position.epoch != self.epoch or position.sequence > now:
                # Another process may know of newer ones than this one has heard of.
                self.heard(await self.backend.top())
                now = max(self.top, ring.last)
            if position.epoch == self.epoch and position.sequence <= now:
                subscription = Subscription(self, names, ring, position.sequence, client)
                if position.sequence < now:
                    subscription.replay = Replay(self.settings.max_replay, now)
                self.counters.resumes["replayed"] += 1
            else:
                subscription = Subscription(self, names, ring, now, client)
                subscription.tell_gap("epoch")
        ring.subscriptions.add(subscription)
        return subscription

    def closed(self, subscription: Subscription) -> None:
        """Take note that a subscription is closed."""
        if subscription in subscription.ring.subscriptions:
            subscription.ring.subscriptions.discard(subscription)
            self._unfollow(subscription.names, subscription.client)

    def subscriptions(self) -> set[Subscription]:
        """Return all subscriptions of this process."""
        rings = (*self._rings.values(), *self._merged.values())
        return set().union(*(ring.subscriptions for ring in rings))

    # ---- For the backend

    def deliver(self, event: Event) -> bool:
        """Hand an event to those who follow it; False when events before it are missing.

        Events come in order and may come twice.
        """
        self._rings.top = max(self.top, event.sequence)
        for name, arrived in self._loading.items():
            if covers(name, event.topic):
                arrived.append(event)
        ring = self._rings.get(event.topic)
        if ring is None:
            if not self._store.is_kept(event.topic):
                return True  # Nobody follows it any more, or not yet.
            ring = self._store.add(event.topic, self._store.floor_of(event.topic))
        if event.sequence <= ring.last:
            return True
        if event.previous > ring.last:
            return False
        self._append(ring, event)
        self._store.bound(ring, len(self._loading))
        return True

    def heard(self, position: Position) -> None:
        """Take note of the broker's position; another epoch is a gap for everybody."""
        if position.epoch == self.epoch:
            self._rings.top = max(self.top, position.sequence)
            return
        told = self.subscriptions() if self.epoch else set()
        self.epoch, self._rings.top = position
        for ring in [*self._rings.values(), *self._merged.values()]:
            ring.clear(self.top)
            ring.changed = self.top
        for subscription in told:
            subscription.tell_gap("epoch")

    def skip(self, topic: str, floor: int) -> None:
        """Take note that the events of a topic up to this number are gone, if any were."""
        ring = self._rings.get(topic)
        if ring is not None and floor > ring.last:
            self._rings.touch(topic, ring)
            for each in (ring, *self._merged.of(topic)):
                self._tell_gap(each, max(floor, each.last))

    def followed(self) -> dict[str, int]:
        """Return the topics and prefixes that rings are kept of, with the newest number of each."""
        return {name: ring.last for name, ring in self._rings.items()}

    # ---- Rings

    async def tidy(self) -> None:
        """Evict what is too old, and drop rings that nobody has read since the last time."""
        now = time.time()
        for merged in self._merged.values():
            merged.expire(now)
        for number, (name, ring) in enumerate(tuple(self._rings.items()), 1):
            if number % TIDY_SHARE == 0:
                await asyncio.sleep(0)  # Others have their turn.
            if self._rings.get(name) is not ring:
                continue
            ring.expire(now)
            if name in self._own:
                if ring.unread() and not self._followers.reads(name):
                    self._release(name)
            elif not ring or not self._store.is_kept(name):
                self._store.drop(name)

    async def _ring_of(self, names: tuple[str, ...]) -> Ring:
        if len(names) == 1 and not names[0].endswith(".*"):
            if names[0] in self._own:
                return self._rings[names[0]]
            return await self._opening.once(names[0], self._open)
        if names in self._merged and names not in self._opening:
            return self._merged[names]
        return await self._opening.once(names, self._merge)

    async def _merge(self, names: tuple[str, ...]) -> Ring:
        # There at once, so that what comes meanwhile is not missed.
        merged = self._store.merge(names)
        try:
            for name in names:
                if name not in self._own:
                    await self._opening.once(name, self._open)
        except BaseException:
            self._merged.part(merged)
            raise
        if self._store.keeps_all:
            merged.clear(self.top)
        else:  # Not the top: what lies below that may still be under way.
            rings = self._rings.behind(names, -1)
            merged.clear(max((ring.last for ring in rings), default=self.top))
        return merged

    async def _open(self, name: str) -> Ring:
        """Follow a topic or a prefix: live first, then what is kept, so that nothing falls between.

        What comes meanwhile is kept here, and delivered again behind what was kept.
        """
        self._loading[name] = []
        try:
            await self.backend.subscribe(name)
            for topic, history in (await self.backend.history(name)).items():
                if topic not in self._rings:
                    ring = self._store.add(topic, history.floor)
                    merged_rings = self._merged.of(topic)
                    open_ones = (m for m in merged_rings if m.names not in self._opening)
                    # What lies behind is still on its way to those who have the topic by a prefix.
                    reached = max((merged.last for merged in open_ones), default=inf)
                    known = [event for event in history.events if event.sequence <= reached]
                    ring.load(History(history.floor, known))
                    self._store.bound(ring, len(self._loading))
        except BaseException:
            self._ask_no_more(name)
            raise
        finally:
            arrived = self._loading.pop(name)
        self._own.add(name)
        for event in arrived:
            self.deliver(event)
        return self._rings[name]

    def _append(self, ring: Ring, event: Event) -> None:
        self._rings.touch(event.topic, ring)
        for each in (ring, *self._merged.of(event.topic)):
            if event.sequence < each.last:  # Found late, when other topics had gone on.
                self._tell_gap(each, each.last)
                continue
            each.append(event)
            if each.subscriptions:
                wake_all(tuple(each.subscriptions))

    def _unfollow(self, names: tuple[str, ...], client: str) -> None:
        """Count a subscription no more, and drop what nobody reads and nobody will come back to."""
        left = self._followers.remove(names, client)
        key = names if len(names) > 1 else names[0]
        if not self._followers.reads(key) and names not in self._opening:
            merged = self._merged.get(names)
            if merged is not None and not merged.subscriptions:
                self._merged.part(merged)
        for name in left:
            if name not in self._own:
                continue
            # With other brokers, what has events stays for a while, for clients that poll again.
            if self._store.keeps_all or not self._rings.has_any(name):
                self._release(name)

    def _release(self, name: str) -> None:
        """Follow a topic or a prefix no more."""
        self._own.discard(name)
        if name.endswith(".*"):
            self._rings.drop(name)
        elif not self._rings[name] or not self._store.is_kept(name):
            self._store.drop(name)
        self._ask_no_more(name)

    def _ask_no_more(self, name: str) -> None:
        """Have the backend pass on no more of a topic or a prefix."""
        if not self._store.keeps_all:
            self._left.add(name)
            if self._leaving is None or self._leaving.done():
                self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        while self._left:
            name = self._left.pop()
            if name not in self._own and name not in self._loading:
                await self.backend.unsubscribe(name)

    def _tell_gap(self, ring: Ring, floor: int) -> None:
        ring.clear(floor)
        for subscription in tuple(ring.subscriptions):
            subscription.tell_gap("evicted")
