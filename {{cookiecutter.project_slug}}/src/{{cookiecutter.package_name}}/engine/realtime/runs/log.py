"""The log of a run: its events on a topic, and for some runs all of them in parts on another one.

A topic keeps its latest events only. So the process of a run that has a `compact` or `resume`
publishes every few hundred messages once more, compacted, as a part of the log.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pydantic_core

from ..hub import Hub
from ..messages import Message, Once
from ..ring import EVENT_COST, Event, Ring
from ..topics import Position
from .definition import Definition
from .readers import End

#: The topics of a run's events, of the parts of its log, and of its stop signal.
EVENTS, LOG, STOP = "run:", "log:", "stop:"
#: The types of the first event of a run, which is not sent to clients, and of the last.
BEGIN, END = "(begin)", "end"
#: The key of the first event of a run whose log is kept.
LOGGED = "logged"
#: The type of an event of the log's topic: another process continues the run.
RESUMED = "(resumed)"
#: Messages of a part, at most.
PART = 200
#: The ids of all but the last event of a compacted log. A client cannot continue after them: it
#: gets a `reset`, and the log from its beginning.
PARTIAL = "partial"


class Part(NamedTuple):
    """Consecutive messages, compacted; the last one was the event with the number `last`."""

    last: int
    messages: list[Message]


@dataclass
class Kept:
    """The parts of a log; a process continues the run with the definition that has this id."""

    definition: str
    body: bytes
    parts: list[Part] = field(default_factory=list)
    #: How often another process has continued the run, and when it did the last time.
    resumed: int = 0
    resumed_at: float = 0.0

    @property
    def last(self) -> int:
        return self.parts[-1].last if self.parts else 0

    def messages(self) -> list[Message]:
        """Return the messages of all parts."""
        return [message for part in self.parts for message in part.messages]

    @classmethod
    def of(cls, ring: Ring) -> "Kept | None":
        """Return the log in a ring; None if there is none, or if its first part was evicted."""
        first = ring.first()
        if first is None or first.message.event != BEGIN:
            return None
        name, body = pydantic_core.from_json(first.message.data)
        kept = cls(name, body.encode())
        for event in all_events(ring):
            if event.message.event == RESUMED:
                kept.resumed, kept.resumed_at = kept.resumed + 1, event.at
            elif event.message.event is None:
                last, messages = pydantic_core.from_json(event.message.data)
                kept.parts.append(Part(last, [Message(*each) for each in messages]))
        return kept


class Keeper:
    """Publishes the parts of the log of a run, while the run publishes its messages."""

    def __init__(self, hub: Hub, definition: Definition, tail: Iterable[Event] = ()) -> None:
        """`tail` are the events after the last part."""
        self._definition = definition
        settings = hub.settings
        # Long before the events are evicted, so that there is never a gap after the last part.
        self._most = max(min(PART, settings.history_size // 3), 1)
        self._room = settings.history_bytes // 4
        self._waiting = messages_of(tail)
        self._size = 0

    def add(self, message: Message, last: int) -> Message | None:
        """Add a message that was published; return a part if it is time to publish one."""
        self._waiting.append(message)
        self._size += EVENT_COST + 4 * len(message.data)
        if len(self._waiting) < self._most and self._size < self._room:
            return None
        part = self._definition.merged(self._waiting)
        self._waiting, self._size = [], 0
        packed = [last, [[each.data, each.event, each.is_json, each.key] for each in part]]
        return Message(pydantic_core.to_json(packed).decode(), is_json=True)


def beginning(definition: Definition, body: bytes) -> Message:
    """Return the first event of the topic of a log."""
    # Only a run that can be continued needs its parameters again.
    text = body.decode() if definition.resume is not None else ""
    return Message(pydantic_core.to_json([definition.id, text]).decode(), BEGIN, is_json=True)


def resumption(run_id: str, kept: Kept) -> tuple[Message, Once]:
    """Return the event with which a process claims to continue a run, and its condition."""
    once = Once(f"{LOG}{run_id} {kept.resumed}", "-", secrets.token_hex(8))
    return Message("", RESUMED), once


def all_events(ring: Ring) -> list[Event]:
    """Return all events of a ring."""
    events: list[Event] = []
    position = ring.floor
    while found := ring.after(position):
        events += found
        position = found[-1].sequence
    return events


def messages_of(events: Iterable[Event]) -> list[Message]:
    """Return the messages of a run among its events."""
    return [each.message for each in events if each.message.event not in (BEGIN, END)]


def compacted(definition: Definition, messages: list[Message], last: Position) -> list[Event]:
    """Return the events of a compacted log up to `last`, which is the id of the last one only."""
    merged = definition.merged(messages)
    ids = [f"{PARTIAL}-{number}" for number in range(1, len(merged))] + [str(last)]
    return [
        Event(event_id, last.sequence, 0, LOG, message, 0.0)
        for event_id, message in zip(ids, merged, strict=False)
    ]


def has_ended(ring: Ring) -> bool:
    """Whether the newest event of a run's topic is its last."""
    newest = ring.after(max(ring.floor, ring.last - 1))
    return bool(newest) and newest[-1].message.event == END


def end_of(event: Event) -> End:
    """Return how a run has ended, from its last event."""
    document: dict[str, Any] = pydantic_core.from_json(event.message.data)
    return End(event.id, document["status"], document.get("problem"))


def digest(*parts: str | bytes) -> str:
    """Return 64 digits that only these parts have."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
