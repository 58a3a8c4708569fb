"""What OpenAPI says of the events of streams, as JSON schemas; `frames` makes them.

Sources: OpenAPI 3.2, section 4.14 (`itemSchema`); JSON Schema 2020-12.
"""

from typing import Any

_ID = {"type": "string", "pattern": "^[0-9a-z]+-[0-9]+$"}

SSE_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _ID,
        "event": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
    "required": ["data"],
}
#: What the service itself tells (`reset`, `reconnect`, `error`) may be of no topic.
JSON_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _ID,
        "topic": {"type": "string"},
        "event": {"type": ["string", "null"]},
        "data": {},
    },
    "required": ["event", "data"],
}
POLLED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "events": {"type": "array", "items": JSON_EVENT},
        "last_event_id": _ID,
        "error": {"type": "object", "description": "Why the waiting ended."},
    },
    "anyOf": [{"required": ["events", "last_event_id"]}, {"required": ["error"]}],
}
