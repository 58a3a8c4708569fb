"""How events look on the wire: as Server-Sent Events, and as JSON.

Each function makes the frame of one event, which `Event.frame` keeps for all subscribers.
Source: WHATWG HTML, sections 9.2.5 (parsing) and 9.2.6 (interpreting an event stream).
"""

import json
import re

from .ring import Event
from .subscription import Reset

_NEWLINE = re.compile(r"\r\n|\r|\n")


def frame(data: str, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode one event; every line of the data gets its own field, so that none forges another."""
    fields = [f"data: {line}" for line in _NEWLINE.split(data)]
    if event is not None:
        fields.insert(0, f"event: {event}")
    if event_id is not None:
        fields.insert(0, f"id: {event_id}")
    return ("\n".join(fields) + "\n\n").encode()


def sse_event(event: Event) -> bytes:
    """For a subscription to one topic."""
    return frame(event.message.data, event=event.message.event, event_id=event.id)


def sse_event_with_topic(event: Event) -> bytes:
    """For a subscription to several topics: the data says of which one it is."""
    data = '{"topic":' + _content(event) + "}"
    return frame(data, event=event.message.event, event_id=event.id)


def json_event(event: Event) -> bytes:
    """One JSON object: `id`, `topic`, `event` (null when none) and `data`."""
    return ('{"id":"' + event.id + '","topic":' + _content(event) + "}").encode()


def json_reset(reset: Reset) -> bytes:
    """A gap, in the form of an event."""
    event = {"id": reset.top, "topic": reset.topic, "event": "reset", "data": reset._asdict()}
    return json.dumps(event, separators=(",", ":")).encode()


def _content(event: Event) -> str:
    message = event.message
    name = "null" if message.event is None else f'"{message.event}"'
    # JSON is repeated as it came, so that numbers keep all their digits.
    data = message.data if message.is_json else json.dumps(message.data)
    return f'"{event.topic}","event":{name},"data":{data}'
