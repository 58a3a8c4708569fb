"""The latest events of one topic, which all its subscribers read at their own positions.

A position is the sequence number of the last event that somebody has seen, in one count over all
topics. So a stalled subscriber costs an integer, not a queue.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from ..streaming import Channel
from .messages import Message

Encode = Callable[[Message, int], bytes]


class Evicted(Exception):
    """Events behind this position are gone: a gap, which must be told."""


@dataclass(slots=True)
class Event:
    """A numbered message; `previous` is the number of the event before it in its topic."""

    sequence: int
    previous: int
    message: Message
    _encoded: bytes | None = None

    def encoded(self, encode: Encode) -> bytes:
        """Return the event as a frame, encoded when first asked for."""
        if self._encoded is None:
            self._encoded = encode(self.message, self.sequence)
        return self._encoded


def _cost(message: Message) -> int:
    """Return about how many bytes an event takes: as text, and as a frame with a field per line."""
    return 256 + 2 * len(message.data) + 8 * message.data.count("\n")


class Ring:
    """Events in order, at most `max_events` and about `max_bytes` of them."""

    def __init__(self, floor: int, max_events: int, max_bytes: int) -> None:
        #: The number up to which events of this topic may have been, and are gone.
        self.floor = floor
        #: The number of the newest event.
        self.last = floor
        #: Who is subscribed to the topic.
        self.channels: set[Channel] = set()
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._max_events = max_events
        self._max_bytes = max_bytes

    def append(self, sequence: int, message: Message) -> None:
        """Add the newest event; the oldest go when there is no room."""
        self._events.append(Event(sequence, self.last, message))
        self.last = sequence
        self._bytes += _cost(message)
        while len(self._events) > self._max_events or (
            self._bytes > self._max_bytes and len(self._events) > 1
        ):
            gone = self._events.popleft()
            self._bytes -= _cost(gone.message)
            self.floor = gone.sequence

    def after(self, position: int) -> list[Event]:
        """Return the events behind a position, oldest first; raises Evicted when some are gone."""
        if position < self.floor:
            raise Evicted
        if position >= self.last:
            return []
        newest = self._events[-1]
        if newest.previous <= position:
            return [newest]  # The usual case: a subscriber that keeps up.
        missed = list(takewhile(lambda event: event.sequence > position, reversed(self._events)))
        return missed[::-1]
