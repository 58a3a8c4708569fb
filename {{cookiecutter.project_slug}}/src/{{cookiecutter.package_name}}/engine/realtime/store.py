"""What a process keeps of topics, all together within the bounds of the settings."""

import time
from collections.abc import Hashable

from ..kernel.kernel import BOUNDS
from .ring import Bounds, Event, History, Ledger, Ring
from .rings import Merged, MergedRings, Rings
from .settings import RealtimeSettings
from .topics import POLICIES, parse_policies, parts_of, policy_of


class Store:
    """The rings, and what they take together."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self._settings = settings
        self._policies = parse_policies(settings.policies)
        self._slot = self._replaces if self._policies else None
        self._bounds = Bounds(settings.history_size, settings.history_bytes, settings.history_age)
        #: Whether there is no other place where events are kept.
        self.keeps_all = settings.broker_url == "memory:"
        self.ledger = Ledger(settings.history_total)
        #: Topics that are followed here, or kept, and prefixes, which have no events of their own.
        self.rings = Rings(self.ledger)
        #: Those that the backend was asked for by name, and not only for a prefix.
        self.own: set[str] = set()
        self.merged = MergedRings(self.ledger)
        #: The highest number among the events of topics that were forgotten.
        self.forgotten = 0

    def history(self, topic: str) -> History:
        """Return what this process keeps of a topic, without what is too old by now."""
        ring = self.rings.get(topic)
        if ring is None:
            return History(self.forgotten, [])
        ring.expire(time.time())
        return ring.history()

    def floor_of(self, topic: str) -> int:
        """Return the number up to which events of a topic without a ring may have been."""
        prefixes = self.own.intersection(parts_of(topic))
        return max((self.rings[name].last for name in prefixes), default=self.forgotten)

    def merge(self, names: tuple[str, ...]) -> Merged:
        """Add a ring of several topics."""
        merged = Merged(names, self.rings, self._bounds, self.ledger, self._slot)
        merged.disconnects = all(policy_of(name, self._policies) == "disconnect" for name in names)
        self.merged.add(merged)
        return merged

    def add(self, topic: str, floor: int) -> Ring:
        """Add a ring, which has nothing behind `floor` yet."""
        ring = Ring(floor, self._bounds, self.ledger, self._slot)
        ring.disconnects = policy_of(topic, self._policies) == "disconnect"
        self.rings.add(topic, ring)
        return ring

    def drop(self, topic: str) -> None:
        """Drop the ring of a topic; the prefixes that have its topic keep its number."""
        ring = self.rings.drop(topic)
        if ring.last == ring.began:
            return  # It never had an event.
        self.forgotten = max(self.forgotten, ring.last)
        for name in self.own.intersection(parts_of(topic)):
            other = self.rings[name]
            other.clear(max(other.last, ring.last))
            self.rings.touch(name, other)

    def is_kept(self, topic: str) -> bool:
        """Whether a topic that is not followed by name is kept, here or for a prefix."""
        return self.keeps_all or not self.own.isdisjoint(parts_of(topic))

    def bound(self, newest: Ring, loading: int) -> None:
        """Evict events and topics until the process keeps no more than it may."""
        rings, spared = self.rings, 0
        kept = self._settings.max_topics + loading
        while len(rings) - len(self.own) > kept:
            name, ring = next(iter(rings.items()))
            if name in self.own:
                rings.touch(name, ring)
            else:
                BOUNDS["realtime.max_topics"] += 1
                self.drop(name)
        while self.ledger.size > self.ledger.limit and spared < len(rings):
            name, ring = next(iter(rings.items()))
            if len(ring) > (ring is newest):
                BOUNDS["realtime.history_total"] += 1
                ring.evict()
                for merged in self.merged.of(name):
                    merged.evict_to(ring.floor)
            if name in self.own or ring is newest:
                if len(ring) <= (ring is newest):
                    rings.touch(name, ring)
                    spared += 1
            elif not ring:
                self.drop(name)

    def _replaces(self, event: Event) -> Hashable:
        return POLICIES[policy_of(event.topic, self._policies)](event)
