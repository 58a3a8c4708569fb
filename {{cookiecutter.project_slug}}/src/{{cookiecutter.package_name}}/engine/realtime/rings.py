"""The rings of a process: found by topic, by prefix and by what has changed since a position."""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from .ring import RING_COST, Bounds, Event, Evicted, Ledger, Ring, Slot
from .topics import covers, parts_of

#: Events that are kept in the order of a list of topics.
MERGED_EVENTS = 100
#: Events of a replay that are looked up together.
PLANNED = 4000
#: Topics that are looked up by name, rather than by what has changed.
FEW = 200


class Rings(OrderedDict[str, Ring]):
    """Topics, and prefixes, which have no events of their own; the last one changed comes last."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger
        #: The highest number of all topics.
        self.top = 0
        #: The topics in order, in which those of a prefix lie side by side: whoever chooses the
        #: names chooses how many prefixes each has, so there is no set for each prefix.
        self._topics: list[str] = []

    def add(self, name: str, ring: Ring) -> None:
        self[name] = ring
        ring.changed = self.top
        self._ledger.size += RING_COST
        if not name.endswith(".*"):
            insort(self._topics, name)

    def touch(self, name: str, ring: Ring) -> None:
        """Take note that a ring changes."""
        ring.changed = self.top
        self.move_to_end(name)

    def drop(self, name: str) -> Ring:
        ring = self.pop(name)
        ring.clear(ring.last)
        self._ledger.size -= RING_COST
        if not name.endswith(".*"):
            del self._topics[bisect_left(self._topics, name)]
        return ring

    def has_any(self, name: str) -> bool:
        """Whether there are events of a topic, or topics of a prefix."""
        if not name.endswith(".*"):
            return len(self[name]) > 0
        first, last = self._range(name)
        return first < last

    def behind(self, names: Iterable[str], position: int) -> Iterator[Ring]:
        """Yield the rings of topics and prefixes that have changed since a position, each once."""
        outer: list[str] = []
        for name in sorted(names, key=len):
            if not any(covers(each, name) for each in outer):
                outer.append(name)
        # A prefix has a ring, too, which knows up to where topics of it may have been forgotten.
        exact = {*names}
        prefixes = tuple(name[:-1] for name in outer if name.endswith(".*"))
        ranges = [self._range(prefix + "*") for prefix in prefixes]
        if sum(last - first for first, last in ranges) <= FEW:
            found = chain.from_iterable(self._topics[first:last] for first, last in ranges)
            yield from (self[name] for name in exact.union(found) if name in self)
            return
        for name, ring in reversed(self.items()):
            if ring.changed <= position:
                return
            if name in exact or (name.startswith(prefixes) and not name.endswith("*")):
                yield ring

    def _range(self, prefix: str) -> tuple[int, int]:
        start = prefix[:-1]
        first = bisect_left(self._topics, start)
        return first, bisect_left(self._topics, start[:-1] + "/", first)  # Comes after the dot.


class Merged(Ring):
    """What several topics have had since this ring was made, in one order."""

    __slots__ = ("names", "rings")

    def __init__(
        self,
        names: tuple[str, ...],
        rings: Rings,
        bounds: Bounds,
        ledger: Ledger,
        slot: Slot | None,
    ) -> None:
        # A short one, as every list of topics has its own: what it lacks, the others have.
        bounds = replace(bounds, events=min(bounds.events, MERGED_EVENTS))
        super().__init__(0, bounds, ledger, slot)
        self.names = names
        self.rings = rings

    def plan(self, position: int) -> tuple[list[int], list[Ring]]:
        """Return the numbers and the rings of the next events behind a position, the last first.

        Raises Evicted when some are gone.
        """
        # By number: tuples in the heap would be work for the garbage collector.
        rings: dict[int, Ring] = {}
        for ring in self.rings.behind(self.names, position):
            if ring.floor > position:
                raise Evicted
            if (event := ring.first_after(position)) is not None:
                rings[event.sequence] = ring
        heap = [*rings]
        numbers: list[int] = []
        found: list[Ring] = []
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


class MergedRings(dict[tuple[str, ...], Merged]):
    """By their list, and by each of its names: every client may have a list of its own."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger
        self._of: dict[str, set[Merged]] = {}

    def add(self, merged: Merged) -> None:
        self[merged.names] = merged
        self._ledger.size += RING_COST
        for name in merged.names:
            self._of.setdefault(name, set()).add(merged)

    def part(self, merged: Merged) -> None:
        """Drop one."""
        del self[merged.names]
        merged.clear(merged.last)
        self._ledger.size -= RING_COST
        for name in merged.names:
            self._of[name].discard(merged)
            if not self._of[name]:
                del self._of[name]

    def of(self, topic: str) -> set[Merged]:
        """Return those that follow a topic, or a prefix of that name."""
        if not self:
            return set()
        parts = [topic] if topic.endswith(".*") else parts_of(topic)
        return set().union(*(self._of.get(name, ()) for name in parts))


class Replay:
    """What a subscription has missed, planned some events at a time, and how much it may get."""

    __slots__ = ("_numbers", "_rings", "left", "until")

    def __init__(self, left: float, until: float) -> None:
        #: Events that it may still get in this response, of those up to the number `until`.
        self.left = left
        self.until = until
        self._numbers: list[int] = []
        self._rings: list[Ring] = []

    def take(self, merged: Merged, position: int, size: int) -> list[Event]:
        """Return the next events of about so many bytes; raises Evicted when some are gone.

        A plan has numbers, not events: what a slow client waits for is not held for it.
        """
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
                self._numbers, self._rings = [], []
                if events:
                    break  # These first: the next call finds that there is a gap.
                raise Evicted
            event = ring.first_after(number - 1)
            if event is not None and event.sequence == number:  # Else a newer one replaced it.
                events.append(event)
                position = number
                size -= len(event.message.data)
        return events
