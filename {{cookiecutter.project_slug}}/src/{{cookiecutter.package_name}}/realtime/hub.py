"""The hub: one per process, it knows who follows what and wakes them.

Nothing is queued per subscriber: an event goes into the ring of its topic, and whoever follows it
takes what lies behind their own position, at once or when their client can take more. Where the
numbers come from, and what is kept of topics that nobody here follows, is the backend's.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, TypeVar

from ..settings import RealtimeSettings
from ..streaming import Kernel, repeating
from .backends import Backend, Once, open_backend
from .counters import Counters, measures_of
from .messages import Message
from .publishing import PublishRate
from .ring import Bounds, Event, History, Merged, MergedRings, Ring
from .subscription import Subscription
from .topics import POLICIES, Position, covers, parse_policies, parts_of, policy_of, topic_full

#: Seconds between two looks for rings that nobody reads any more.
TIDY_SECONDS = 10.0
#: Subscribers that are sent an event before the loop looks at anything else: some milliseconds.
WAKE_AT_ONCE = 500

K = TypeVar("K", bound=Hashable)


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
        #: The epoch, and the highest number, as far as this process has heard.
        self.epoch, self.top = "", 0
        self._policies = parse_policies(settings.policies)
        self._slot = self._replaces if self._policies else None
        self._bounds = Bounds(settings.history_size, settings.history_bytes, settings.history_age)
        #: Topics that somebody here follows, and prefixes, which have no events of their own.
        self._rings: dict[str, Ring] = {}
        #: Those that the backend was asked for by name, and not only for a prefix.
        self._own: set[str] = set()
        self._merged = MergedRings()
        self._opening: dict[Hashable, asyncio.Task[Ring]] = {}
        self._loading: dict[str, list[Event]] = {}

    async def publish(self, topic: str, message: Message, once: Once | None = None) -> str:
        """Publish a message and return its id; `once` has it published only the first time."""
        event_id = await self.backend.publish(topic, message, once)
        self.counters.published += 1
        return event_id

    async def subscribe(
        self, names: tuple[str, ...], last_event_id: str | None = None
    ) -> Subscription:
        """Follow topics from behind `last_event_id`, or from now on when that is None.

        Raises Problem 503 when a topic has too many subscribers, or when the broker must be asked
        and does not answer.
        """
        ring = await self._ring_of(names)
        if any(self._is_full(name) for name in names):
            raise topic_full()
        now = max(self.top, ring.last)
        if last_event_id is None:
            subscription = Subscription(self, names, ring, now)
            self.counters.resumes["fresh"] += 1
        else:
            position = Position.parse(last_event_id)
            if position.epoch != self.epoch or position.sequence > now:
                # Another process may know of newer ones than this one has heard of.
                self.heard(await self.backend.top())
                ring = await self._ring_of(names)  # Meanwhile it may have been let go.
                now = max(self.top, ring.last)
            if position.epoch == self.epoch and position.sequence <= now:
                subscription = Subscription(self, names, ring, position.sequence)
                self.counters.resumes["replayed"] += 1
            else:
                subscription = Subscription(self, names, ring, now, gap="epoch")
        ring.subscriptions.add(subscription)
        return subscription

    def subscriptions(self) -> set[Subscription]:
        """Return all subscriptions of this process."""
        rings = (*self._rings.values(), *self._merged.values())
        return set().union(*(ring.subscriptions for ring in rings))

    # ---- For the backend

    def deliver(self, event: Event) -> bool:
        """Hand an event to those who follow it; False when events before it are missing.

        Events come in order and may come twice.
        """
        self.top = max(self.top, event.sequence)
        for name, arrived in self._loading.items():
            if covers(name, event.topic):
                arrived.append(event)
        ring = self._rings.get(event.topic)
        if ring is None:
            prefixes = self._own.intersection(parts_of(event.topic))
            if not prefixes:
                return True  # Nobody follows it any more, or not yet.
            ring = self._add(event.topic, max(self._rings[name].last for name in prefixes))
        if event.sequence <= ring.last:
            return True
        if event.previous > ring.last:
            return False
        self._append(ring, event)
        return True

    def heard(self, position: Position) -> None:
        """Take note of the broker's position; another epoch is a gap for everybody."""
        if position.epoch == self.epoch:
            self.top = max(self.top, position.sequence)
            return
        told = self.subscriptions() if self.epoch else set()
        self.epoch, self.top = position
        for ring in [*self._rings.values(), *self._merged.values()]:
            ring.clear(self.top)
        for subscription in told:
            subscription.tell_gap("epoch")

    def skip(self, topic: str, floor: int) -> None:
        """Take note that the events of a topic up to this number are gone, if any were."""
        ring = self._rings.get(topic)
        if ring and floor > ring.last:
            for each in (ring, *ring.merged):
                self._tell_gap(each, max(floor, each.last))

    def forget(self, topic: str) -> None:
        """Let go of the events of a topic that the broker has forgotten."""
        if ring := self._rings.get(topic):
            ring.clear(ring.last)

    def followed(self) -> dict[str, int]:
        """Return the topics and prefixes that rings are kept of, with the newest number of each."""
        return {name: ring.last for name, ring in self._rings.items()}

    # ---- Rings

    def make_ring(self, topic: str, floor: int) -> Ring:
        """Return an empty ring by the policy of its topic."""
        ring = Ring(floor, self._bounds, self._slot)
        ring.disconnects = policy_of(topic, self._policies) == "disconnect"
        return ring

    async def tidy(self) -> None:
        """Let go what is too old, and rings that nobody has read since the last time."""
        now = time.time()
        for names, merged in tuple(self._merged.items()):
            merged.expire(now)
            if merged.unread() and names not in self._opening:
                self._merged.part(merged)
        gone = []
        for name, ring in tuple(self._rings.items()):
            ring.expire(now)
            if not ring.unread():
                continue
            if not ring.merged:
                del self._rings[name]
                self._own.discard(name)
                gone.append(name)
            elif not ring.size and name not in self._own:
                self._drop(name, ring)
        for name in gone:  # Only now: whoever comes meanwhile finds all of them gone.
            if name not in self._rings and name not in self._loading:
                await self.backend.unsubscribe(name)

    async def _ring_of(self, names: tuple[str, ...]) -> Ring:
        if len(names) == 1 and not names[0].endswith(".*"):
            if names[0] in self._own:
                return self._rings[names[0]]
            return await self._once(names[0], self._open)
        if names in self._merged and names not in self._opening:
            return self._merged[names]
        return await self._once(names, self._merge)

    async def _once(self, key: K, open_ring: Callable[[K], Coroutine[Any, Any, Ring]]) -> Ring:
        """Open a ring in a task that is shared by all who want it at the same time."""
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = asyncio.create_task(open_ring(key))
            task.add_done_callback(lambda task: self._opened(key, task))
        return await asyncio.shield(task)

    def _opened(self, key: Hashable, task: asyncio.Task[Ring]) -> None:
        del self._opening[key]
        if not task.cancelled():
            task.exception()  # Seen, also when nobody waits any more.

    async def _merge(self, names: tuple[str, ...]) -> Ring:
        # There at once, so that topics that are new to a prefix get rings meanwhile.
        merged = Merged(names, self._bounds, self._slot)
        self._merged.add(merged)
        merged.disconnects = all(policy_of(name, self._policies) == "disconnect" for name in names)
        for name in names:
            for topic in self._rings if name.endswith(".*") else self._rings.keys() & {name}:
                if covers(name, topic):
                    merged.join(self._rings[topic])
        try:
            for name in names:
                if name not in self._own:
                    await self._once(name, self._open)
        except BaseException:
            self._merged.part(merged)
            raise
        # Not the top: what lies below that may still be under way.
        merged.clear(max((ring.last for ring in merged.members), default=self.top))
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
                    ring = self._add(topic, history.floor)
                    open_ones = (m for m in ring.merged if m.names not in self._opening)
                    # What lies behind is still on its way to those who have the topic by a prefix.
                    reached = max((merged.last for merged in open_ones), default=inf)
                    known = [event for event in history.events if event.sequence <= reached]
                    ring.load(History(history.floor, known))
        finally:
            arrived = self._loading.pop(name)
        self._own.add(name)
        for event in arrived:
            self.deliver(event)
        return self._rings[name]

    def _add(self, topic: str, floor: int) -> Ring:
        ring = self._rings[topic] = self.make_ring(topic, floor)
        for merged in self._merged.of(topic):
            merged.join(ring)
        return ring

    def _drop(self, topic: str, ring: Ring) -> None:
        """Let go of an empty ring; the prefixes that have its topic keep its number."""
        del self._rings[topic]
        for merged in ring.merged:
            merged.members.discard(ring)
        for name in self._rings.keys() & set(parts_of(topic)):
            other = self._rings[name]
            other.clear(max(other.last, ring.last))

    def _append(self, ring: Ring, event: Event) -> None:
        for each in (ring, *ring.merged):
            if event.sequence < each.last:  # Found late, when other topics had gone on.
                self._tell_gap(each, each.last)
                continue
            each.append(event)
            if each.subscriptions:
                self._wake(tuple(each.subscriptions))

    def _tell_gap(self, ring: Ring, floor: int) -> None:
        ring.clear(floor)
        for subscription in tuple(ring.subscriptions):
            subscription.tell_gap("evicted")

    def _wake(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Wake some at once and the others when the loop has looked at everything else."""
        for subscription in subscriptions[:WAKE_AT_ONCE]:
            subscription.wake()
        if rest := subscriptions[WAKE_AT_ONCE:]:
            asyncio.get_running_loop().call_soon(self._wake, rest)

    def _is_full(self, name: str) -> bool:
        limit, ring = self.settings.max_per_topic, self._rings[name]
        return limit is not None and limit <= sum(
            len(each.subscriptions) for each in (ring, *ring.merged)
        )

    def _replaces(self, event: Event) -> Hashable:
        return POLICIES[policy_of(event.topic, self._policies)](event)
