"""The hub: one per process, it holds the subscriptions and wakes them when events arrive.

Nothing is queued per subscriber: an event goes into the ring of its topic, and each subscriber
takes the events after its own position when its client can receive more. The backend numbers
events, and keeps those of topics without subscribers in this process.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from math import inf

from ..kernel.kernel import Kernel, Measure
from ..kernel.threads import repeating
from ..streams.clock import expiry_time
from .backends import Backend, open_backend
from .limits import Followers, PublishRate
from .messages import Message, Once
from .ring import Event, Reader, Ring
from .settings import RealtimeSettings
from .store import Replay, Store
from .subscription import Counters, Subscription
from .topics import Position, covers, names_of_owner

#: Seconds between two searches for rings without readers, and the rings that are checked before
#: other tasks run.
TIDY_SECONDS, TIDY_SHARE = 10.0, 100
#: Subscribers that receive an event before other tasks run: it takes some milliseconds.
WAKE_AT_ONCE = 500


@asynccontextmanager
async def open_hub(settings: RealtimeSettings, kernel: Kernel) -> AsyncGenerator["Hub"]:
    """Open the hub with the broker of the settings, for the lifespan."""
    hub = Hub(settings)
    kernel.checks["broker"] = lambda: hub.backend.up
    kernel.checks["publishing"] = lambda: hub.backend.publishes
    kernel.tolerated.add("publishing")  # Events can still be followed.
    kernel.measures += hub.measures()
    async with open_backend(hub, settings) as hub.backend, repeating(TIDY_SECONDS, hub.tidy):
        yield hub


class Hub:
    """Publishes messages and holds the subscriptions of this process."""

    backend: Backend

    def __init__(self, settings: RealtimeSettings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.rate = PublishRate(settings.publish_rate)
        #: The topics and prefixes on which clients cannot publish.
        self.read_only = {*filter(None, settings.read_only.split(","))}
        #: The topics of which every owner has a part: `files` consists of `files.OWNER`.
        self.personal: set[str] = set()
        self._store = Store(settings)
        self.ledger, self._rings, self._own = self._store.ledger, self._store.rings, self._store.own
        self._followers = Followers(settings)
        #: Topics and prefixes that are being opened.
        self._opening: dict[str, asyncio.Task[None]] = {}
        #: Events that arrived since the opening of a name began.
        self._loading: dict[str, list[Event]] = {}
        #: Names that the backend must be unsubscribed from.
        self._left: set[str] = set()
        self._leaving: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> str:
        return self._store.epoch

    @property
    def top(self) -> int:
        return self._store.top

    async def publish(self, topic: str, message: Message, once: Once | None = None) -> str:
        """Publish a message and return its id; see `Backend.publish`."""
        published = await self.backend.publish(topic, message, once)
        self.counters.published += 1
        return published.id

    async def claim(self, topic: str, message: Message, once: Once) -> str | None:
        """Publish a message once; None if it was not this attempt, which has a nonce."""
        published = await self.backend.publish(topic, message, once)
        return published.id if published.is_mine else None

    async def extend(self, topic: str, message: Message, last: int) -> str | None:
        """Publish a message after event `last` of a topic; None if there is a newer one."""
        published = await self.backend.publish(topic, message, None, last)
        self.counters.published += published.is_mine
        return published.id if published.is_mine else None

    async def kept(self, topic: str) -> Ring:
        """Return the events of a topic that are kept now; raises Problem 503."""
        subscription = await self.subscribe((topic,))
        subscription.close()
        return subscription.ring

    async def subscribe(
        self,
        names: tuple[str, ...],
        last_event_id: str | None = None,
        client: str = "",
        owner: str | None = None,
    ) -> Subscription:
        """Follow topics from the event after `last_event_id`, or from now on if that is None.

        The subscription to a `personal` topic gets the events of `owner`, or of all owners if that
        is None. Raises Problem 503 if a topic has too many subscribers, if too many topics are
        followed, or if the broker must be asked and is unavailable; 429 if `client` follows too
        many.
        """
        asked = names
        if personal := self.personal.intersection(names):
            names = names_of_owner(names, personal, owner)
        self._followers.check(names, client)
        # Count it before the first await, so that others cannot exceed the limit or drop the names.
        self._followers.add(names, client)
        position = None if last_event_id is None else Position.parse(last_event_id)
        try:
            ring = await self._ring_of(names)
            if position is not None and not self._knows(position, ring):
                # Another process may have received newer events than this one.
                self.heard(await self.backend.top())
        except BaseException:
            self._unfollow(names, client)
            raise
        now, closed = max(self.top, ring.last), partial(self._unfollow, names, client)
        subscription = Subscription(asked, ring, now, self._store, self.counters, closed)
        subscription.personal = personal or ()
        if position is None:
            self.counters.resumes["fresh"] += 1
        elif self._knows(position, ring):
            self.counters.resumes["replayed"] += 1
            subscription.position = position.sequence
            if position.sequence < now:
                subscription.replay = Replay(self.settings.max_replay, now)
        else:
            subscription.report_gap("epoch")
        return subscription

    def _knows(self, position: Position, ring: Ring) -> bool:
        return position.epoch == self.epoch and position.sequence <= max(self.top, ring.last)

    def subscriptions(self) -> set[Reader]:
        """Return all subscriptions of this process."""
        return set().union(*(ring.subscriptions for ring in self._store.all_rings()))

    def measures(self) -> list[Measure]:
        """Return the metrics of topics and subscriptions."""
        counts, topics, readers = self.counters, self._rings, self.subscriptions

        def lag() -> float:
            return max((each.lag for each in readers()), default=0)

        def resumes() -> dict[str, float]:
            return dict(counts.resumes)

        return [
            Measure("realtime_subscriptions", "Subscriptions.", "sum", lambda: len(readers())),
            Measure("realtime_topics", "Kept topics and prefixes.", "sum", lambda: len(topics)),
            Measure("realtime_lag_events", "Lag of the slowest subscriber.", "max", lag),
            Measure("realtime_published", "Published events.", "counter", lambda: counts.published),
            Measure("realtime_delivered", "Delivered events.", "counter", lambda: counts.delivered),
            Measure("realtime_resumes", "Subscriptions by start.", "counter", resumes, "result"),
        ]

    # ---- The listener of the backend

    def deliver(self, event: Event) -> bool:
        store = self._store
        store.top = max(store.top, event.sequence)
        for name, arrived in self._loading.items():
            if covers(name, event.topic):
                arrived.append(event)
        ring = self._rings.get(event.topic)
        if ring is None:
            ring = store.add_covered(event.topic)
        if ring is None or event.sequence <= ring.last:
            return True
        if event.previous > ring.last:
            return False
        store.touch(event.topic, ring)
        ring.append(event)
        _wake_all(tuple(ring.subscriptions))
        for merged in store.merged_of(event.topic):
            if event.sequence < merged.last:  # It arrived after newer events of other topics.
                _report_gap(merged, merged.last)
            else:
                merged.advance(ring)
                _wake_all(tuple(merged.subscriptions))
        store.bound(ring, len(self._loading))
        return True

    def heard(self, position: Position) -> None:
        store = self._store
        if position.epoch == store.epoch:
            store.top = max(store.top, position.sequence)
            return
        subscriptions = self.subscriptions() if store.epoch else ()
        store.begin(position)
        for subscription in subscriptions:
            subscription.report_gap("epoch")

    def skip(self, topic: str, floor: int) -> None:
        ring = self._rings.get(topic)
        if ring is not None and floor > ring.last:
            self._store.touch(topic, ring)
            for each in (ring, *self._store.merged_of(topic)):
                _report_gap(each, max(floor, each.last))

    def followed(self) -> dict[str, int]:
        return {name: ring.last for name, ring in self._rings.items()}

    # ---- Rings

    async def tidy(self) -> None:
        """Evict events that are too old, and drop rings that had no readers since the last call."""
        now = expiry_time()
        for number, (name, ring) in enumerate(tuple(self._rings.items()), 1):
            if number % TIDY_SHARE == 0:
                await asyncio.sleep(0)
            if self._rings.get(name) is not ring:
                continue
            ring.expire(now)
            if name in self._own:
                if ring.unread() and not self._followers.of(name):
                    self._release(name)
            elif not ring or not self._store.is_kept(name):
                self._store.drop(name)

    async def _ring_of(self, names: tuple[str, ...]) -> Ring:
        for name in names:
            if name not in self._own:
                # In one task for all subscribers that need it at the same time.
                if (task := self._opening.get(name)) is None:
                    task = self._opening[name] = asyncio.create_task(self._open(name))
                    task.add_done_callback(partial(self._opened, name))
                await asyncio.shield(task)
        if len(names) == 1 and not names[0].endswith(".*"):
            return self._rings[names[0]]
        merged = self._store.merged.get(names)
        if merged is None:
            merged = self._store.merge(names)
            # With a broker that keeps events, some up to the top may still be on their way.
            rings = () if self._store.keeps_all else self._store.changed_since(-1, names)
            merged.clear(max((ring.last for ring in rings), default=self.top))
        return merged

    def _opened(self, name: str, task: asyncio.Task[None]) -> None:
        del self._opening[name]
        if not task.cancelled():
            task.exception()  # Retrieved, as all subscribers may have been cancelled.

    async def _open(self, name: str) -> None:
        """Follow a topic or a prefix: new events first, then the history, so that none is missed.

        The events that arrive meanwhile are kept here and delivered again after the history.
        """
        self._loading[name] = []
        try:
            await self.backend.subscribe(name)
            for topic, history in (await self.backend.history(name)).items():
                ring = self._rings.get(topic)
                if ring is None:
                    floor = max(history.floor, self._store.forgotten)
                    ring = self._store.add(topic, floor)
                    # Later ones are still on their way to subscribers of a prefix of the topic.
                    merged_rings = self._store.merged_of(topic)
                    reached = max((merged.last for merged in merged_rings), default=inf)
                    for event in history.events:
                        if event.sequence <= reached:
                            ring.append(event)
                    self._store.bound(ring, len(self._loading))
                ring.expire(expiry_time())
        except BaseException:
            self._unsubscribe(name)
            raise
        finally:
            arrived = self._loading.pop(name)
        self._own.add(name)
        for event in arrived:
            self.deliver(event)

    def _unfollow(self, names: tuple[str, ...], client: str) -> None:
        """Stop counting a subscription, and drop the rings that no client will read again."""
        left = self._followers.remove(names, client)
        if not self._followers.of(names):
            self._store.drop_merged(names)
        for name in left:
            # Rings with events are kept for a while if they would have to be read from a broker
            # again: the clients of long-polls reconnect.
            if name in self._own and (self._store.keeps_all or not self._store.has_any(name)):
                self._release(name)

    def _release(self, name: str) -> None:
        """Stop following a topic or a prefix."""
        self._own.discard(name)
        if name.endswith(".*") or not self._rings[name] or not self._store.is_kept(name):
            self._store.drop(name)
        self._unsubscribe(name)

    def _unsubscribe(self, name: str) -> None:
        if not self._store.keeps_all:
            self._left.add(name)
            if self._leaving is None or self._leaving.done():
                self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        while self._left:
            name = self._left.pop()
            if name not in self._own and name not in self._loading:
                await self.backend.unsubscribe(name)


def _report_gap(ring: Ring, floor: int) -> None:
    ring.clear(floor)
    for subscription in tuple(ring.subscriptions):
        subscription.report_gap("evicted")


def _wake_all(subscriptions: tuple[Reader, ...]) -> None:
    """Wake some subscribers at once, and the others after other tasks have run."""
    for subscription in subscriptions[:WAKE_AT_ONCE]:
        subscription.wake()
    if rest := subscriptions[WAKE_AT_ONCE:]:
        asyncio.get_running_loop().call_soon(_wake_all, rest)
