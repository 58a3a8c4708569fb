"""Server-Sent Events: the frames, and the response that a subscriber is.

A frame is encoded once, however many subscribers it goes to.
Source: WHATWG HTML, sections 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

import json
import re
from typing import Any

from ..streaming import Channel, Exchange, PushResponse
from .hub import Hub, Subscription
from .messages import Message

#: Milliseconds after which a client comes back when nobody told it otherwise.
RETRY_MS = 2000

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold the stream back until its buffer is full.
    "X-Content-Type-Options": "nosniff",
}
_NEWLINE = re.compile(r"\r\n|\r|\n")


def frame(data: str, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode one event; every line of the data gets its own field, so that none forges another."""
    fields = [f"data: {line}" for line in _NEWLINE.split(data)]
    if event is not None:
        fields.insert(0, f"event: {event}")
    if event_id is not None:
        fields.insert(0, f"id: {event_id}")
    return ("\n".join(fields) + "\n\n").encode()


class EventStreamChannel(Channel):
    """One subscriber."""

    __slots__ = ("_greeting", "_subscription", "heartbeat_after")

    #: A lone comment line: a whole block of comment is an empty event to some clients.
    heartbeat = b":\n"

    def __init__(self, exchange: Exchange, subscription: Subscription) -> None:
        super().__init__(exchange)
        self.heartbeat_after = subscription.hub.settings.heartbeat
        self._subscription = subscription
        # At once: proxies pass the head on, and the client has a position to come back to.
        self._greeting = f"retry: {RETRY_MS}\nid: {subscription.event_id}\n\n".encode()
        subscription.topic.channels.add(self)

    def close(self) -> None:
        self._subscription.topic.channels.discard(self)

    def take(self) -> bytes:
        greeting, self._greeting = self._greeting, b""
        reset, events = self._subscription.take()
        if reset is not None:
            greeting += frame(json.dumps(reset), event="reset", event_id=reset["top"])
        if not greeting and len(events) == 1:
            return events[0].encoded(self._encode)  # Shared, not copied.
        return greeting + b"".join([event.encoded(self._encode) for event in events])

    def farewell(self, retry_after: float) -> bytes:
        return f"retry: {retry_after * 1000:.0f}\n".encode() + frame("{}", event="reconnect")

    def failure(self, document: dict[str, Any]) -> bytes:
        return frame(json.dumps(document), event="error")

    def _encode(self, message: Message, sequence: int) -> bytes:
        event_id = self._subscription.hub.event_id(sequence)
        return frame(message.data, event=message.event, event_id=event_id)


class EventStream(PushResponse):
    """Subscribe the client to a topic, from behind the last event that it has seen."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, topic: str, last_event_id: str | None) -> None:
        super().__init__(_HEADERS)
        self._hub = hub
        self._topic = topic
        self._last_event_id = last_event_id

    def open(self, exchange: Exchange) -> EventStreamChannel:
        return EventStreamChannel(exchange, self._hub.subscribe(self._topic, self._last_event_id))
