"""The events that this process keeps: a ring for each topic, within the bounds of the settings."""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from ..kernel.kernel import BOUNDS
from .ring import POLICIES, RING_COST, Bounds, Event, Evicted, Ledger, Ring
from .settings import RealtimeSettings
from .topics import Position, parse_policies, parts_of, policy_of

#: The latest events, which subscribers of several topics read without the plan of a `Replay`.
LATEST = 8
#: Events of a replay that are looked up together.
PLANNED = 4000
#: The number of topics up to which they are looked up by name; more are read in the order of their
#: last change.
FEW = 200


class Merged(Ring):
    """Several topics, read in one order; it has no events, as the rings of the topics have them."""

    __slots__ = ("_latest", "_store", "names")

    def __init__(self, names: tuple[str, ...], store: "Store") -> None:
        super().__init__(0, store.bounds, store.ledger, None)
        self.names = names
        self._store = store
        #: The numbers and rings of the latest events, which come after the number `_before`.
        self._latest: deque[tuple[int, Ring]] = deque(maxlen=LATEST)

    def advance(self, ring: Ring) -> None:
        """Record the newest event of a ring of these topics."""
        if len(self._latest) == LATEST:
            self._before = max(self._before, self._latest[0][0])
        self._latest.append((ring.last, ring))
        self.last = ring.last

    def latest_after(self, position: int) -> list[Event] | None:
        """Return the events after a position if they are among the latest, otherwise None."""
        if position < self._before:
            return None
        events: list[Event] = []
        for number, ring in reversed(self._latest):
            if number <= position:
                break
            if (event := ring.get(number)) is None:
                return None  # Evicted or replaced.
            events.append(event)
        return events[::-1]

    def plan(self, position: int) -> tuple[list[int], list[Ring]]:
        """Return the numbers and rings of the next events of the topics, the last one first.

        Raises Evicted if some were evicted.
        """
        # By number: tuples in the heap would cost the garbage collector more than this does.
        rings: dict[int, Ring] = {}
        for ring in self._store.changed_since(position, self.names):
            if ring.floor > position:
                raise Evicted
            if (event := ring.first_after(position)) is not None:
                rings[event.sequence] = ring
        heap, numbers, found = [*rings], list[int](), list[Ring]()
        heapq.heapify(heap)
        while heap and len(numbers) < PLANNED:
            number = heap[0]
            ring = rings.pop(number)
            numbers.append(number)
            found.append(ring)
            if (event := ring.first_after(number)) is not None:
                rings[event.sequence] = ring
                heapq.heapreplace(heap, event.sequence)
            else:
                heapq.heappop(heap)
        return numbers[::-1], found[::-1]


@dataclass(slots=True)
class Replay:
    """The events that a subscription has missed, planned some at a time, and a limit of them.

    A plan has numbers, not events, so that a slow client holds no events in memory.
    """

    #: Events that this response may still contain, of those up to the number `until`.
    left: float
    until: float
    _numbers: list[int] = field(default_factory=list)
    _rings: list[Ring] = field(default_factory=list)

    def take(self, merged: Merged, position: int, size: int) -> list[Event]:
        """Return the next events of about `size` bytes; raises Evicted if some were evicted."""
        events: list[Event] = []
        while size > 0:
            if not self._numbers:
                if events:
                    break
                self._numbers, self._rings = merged.plan(position)
                if not self._numbers:
                    break
            number, ring = self._numbers.pop(), self._rings.pop()
            if ring.floor > position:
                self._numbers = []
                if events:
                    break  # The next call plans again and raises Evicted.
                raise Evicted
            if (event := ring.get(number)) is not None:  # Otherwise a newer one replaced it.
                events.append(event)
                position = number
                size -= len(event.message.data)
        return events


class Store:
    """All rings of a process, within the bounds of the settings."""

    def __init__(self, settings: RealtimeSettings) -> None:
        self._settings = settings
        self._policies = parse_policies(settings.policies)
        self._slot = self._slot_of if self._policies else None
        self.bounds = Bounds(settings.history_size, settings.history_bytes, settings.history_age)
        #: Whether the broker keeps no events itself.
        self.keeps_all = settings.broker_url == "memory:"
        self.epoch = ""
        #: The highest number over all topics.
        self.top = 0
        self.ledger = Ledger(settings.history_total)
        #: By topic, and by prefix (those have no events); the last one changed is at the end.
        self.rings: OrderedDict[str, Ring] = OrderedDict()
        #: The names that were opened with the broker themselves, not only by a prefix.
        self.own: set[str] = set()
        #: By the list of names.
        self.merged: dict[tuple[str, ...], Merged] = {}
        self._merged_of: dict[str, set[Merged]] = {}
        #: The topics in order, so that those of a prefix are a range: a set for each prefix would
        #: let clients choose how much memory a topic takes.
        self._topics: list[str] = []
        #: Without a broker that keeps events: the highest number of the topics that were dropped.
        self.forgotten = 0

    # ---- Topics

    def add(self, name: str, floor: int) -> Ring:
        """Add a ring of a topic or prefix, without events up to `floor`."""
        ring = self.rings[name] = Ring(floor, self.bounds, self.ledger, self._slot)
        ring.disconnects = policy_of(name, self._policies) == "disconnect"
        ring.changed = self.top
        self.ledger.size += RING_COST
        if not name.endswith(".*"):
            insort(self._topics, name)
        return ring

    def add_covered(self, topic: str) -> Ring | None:
        """Add a ring of a topic that got an event, or return None if nothing needs it here."""
        prefixes = self.own.intersection(parts_of(topic))
        if not prefixes and not self.keeps_all:
            return None
        floor = max((self.rings[name].last for name in prefixes), default=self.forgotten)
        return self.add(topic, floor)

    def touch(self, name: str, ring: Ring) -> None:
        """Record that a ring changes."""
        ring.changed = self.top
        self.rings.move_to_end(name)

    def drop(self, name: str) -> None:
        """Drop the ring of a topic or prefix; the prefixes of a topic keep its number."""
        ring = self.rings.pop(name)
        last = ring.last
        ring.clear(last)
        self.ledger.size -= RING_COST
        if name.endswith(".*"):
            return
        del self._topics[bisect_left(self._topics, name)]
        if last == ring.began:
            return  # It never had an event.
        if self.keeps_all:
            self.forgotten = max(self.forgotten, last)
        for prefix in self.own.intersection(parts_of(name)):
            other = self.rings[prefix]
            other.clear(max(other.last, last))
            self.touch(prefix, other)

    def is_kept(self, topic: str) -> bool:
        """Whether a topic is kept although no subscription names it."""
        return self.keeps_all or not self.own.isdisjoint(parts_of(topic))

    def has_any(self, name: str) -> bool:
        """Whether a topic has events, or a prefix has topics."""
        if not name.endswith(".*"):
            return len(self.rings[name]) > 0
        first, last = self._range(name[:-1])
        return first < last

    def changed_since(self, position: int, names: Iterable[str]) -> Iterator[Ring]:
        """Yield the rings of topics and prefixes that have changed since a position, each once."""
        # The ring of a prefix is one of them: its floor is the number of dropped topics.
        exact = {*names}
        prefixes = tuple(name[:-1] for name in exact if name.endswith(".*"))
        ranges = [self._range(prefix) for prefix in prefixes]
        if sum(last - first for first, last in ranges) <= FEW:
            found = exact.union(*(self._topics[first:last] for first, last in ranges))
            rings = (self.rings[name] for name in found if name in self.rings)
            yield from (ring for ring in rings if ring.changed > position)
            return
        for name, ring in reversed(self.rings.items()):
            if ring.changed <= position:
                return
            if name in exact or (name.startswith(prefixes) and not name.endswith("*")):
                yield ring

    def _range(self, prefix: str) -> tuple[int, int]:
        """Return the range of topics that begin with a prefix, which ends with a dot."""
        first = bisect_left(self._topics, prefix)
        return first, bisect_left(self._topics, prefix[:-1] + "/", first)  # "/" follows ".".

    # ---- Several topics

    def merge(self, names: tuple[str, ...]) -> Merged:
        """Add a ring that merges several topics."""
        merged = self.merged[names] = Merged(names, self)
        merged.disconnects = all(policy_of(name, self._policies) == "disconnect" for name in names)
        self.ledger.size += RING_COST
        for name in names:
            self._merged_of.setdefault(name, set()).add(merged)
        return merged

    def drop_merged(self, names: tuple[str, ...]) -> None:
        """Drop the ring that merges several topics, if there is one."""
        if (merged := self.merged.pop(names, None)) is None:
            return
        self.ledger.size -= RING_COST
        for name in names:
            self._merged_of[name].discard(merged)
            if not self._merged_of[name]:
                del self._merged_of[name]

    def merged_of(self, name: str) -> set[Merged]:
        """Return the merged rings that contain a topic or prefix."""
        if not self.merged:
            return set()
        return set().union(*(self._merged_of.get(part, ()) for part in parts_of(name)))

    # ---- All

    def all_rings(self) -> list[Ring]:
        return [*self.rings.values(), *self.merged.values()]

    def begin(self, position: Position) -> None:
        """Begin another epoch: evict all events."""
        self.epoch, self.top = position
        for ring in self.all_rings():
            ring.clear(self.top)
            ring.changed = self.top

    def bound(self, newest: Ring, loading: int) -> None:
        """Evict events and drop topics until the process keeps no more than the settings allow."""
        rings, spared = self.rings, 0
        kept = self._settings.max_topics + loading
        while len(rings) - len(self.own) > kept:
            name, ring = next(iter(rings.items()))
            if name in self.own:
                self.touch(name, ring)
            else:
                BOUNDS["realtime.max_topics"] += 1
                self.drop(name)
        while self.ledger.size > self.ledger.limit and spared < len(rings):
            name, ring = next(iter(rings.items()))
            if len(ring) > (ring is newest):
                BOUNDS["realtime.history_total"] += 1
                ring.evict()
            if name in self.own or ring is newest:
                if len(ring) <= (ring is newest):
                    self.touch(name, ring)
                    spared += 1
            elif not ring:
                self.drop(name)

    def _slot_of(self, event: Event) -> Hashable:
        return POLICIES[policy_of(event.topic, self._policies)](event)
