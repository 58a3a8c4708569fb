"""Strict parsers of the streams of a run, for bytes in any pieces.

Sources: WHATWG HTML, section 9.2.6 (interpreting an event stream); jsonlines.org.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Record(NamedTuple):
    """An event: its id (empty if it has none), its type (None: `message`), and its data."""

    id: str
    event: str | None
    data: str


class EventStreamParser:
    """Server-Sent Events; lines end only with CR, LF or CRLF."""

    media_type = "text/event-stream"

    def __init__(self) -> None:
        self._unread = b""
        self._is_first = True
        self._fields: dict[str, str] = {}
        self._data: list[str] = []
        self.last_event_id = ""

    def feed(self, data: bytes) -> Iterator[Record]:
        """Return the events that are complete."""
        data = self._unread + data
        half = data[-1:] if data.endswith(b"\r") else b""  # It may be the half of a CRLF.
        data = data.removesuffix(half).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        self._unread = rest + half
        for line in lines:
            yield from self._line(line.decode())  # Strict: not UTF-8 is an error.

    def _line(self, line: str) -> Iterator[Record]:
        if self._is_first:
            line, self._is_first = line.removeprefix("\ufeff"), False
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            event = self._fields.get("event") or None
            if self._data:
                yield Record(self.last_event_id, event, "\n".join(self._data))
            self._fields, self._data = {}, []
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last_event_id = value
        else:
            self._fields[name] = value


class UIMessageParser(EventStreamParser):
    """A UI message stream of the AI SDK, as the records of texts and of the end."""

    def feed(self, data: bytes) -> Iterator[Record]:
        for record in super().feed(data):
            part = {"type": "done"} if record.data == "[DONE]" else json.loads(record.data)
            match part["type"]:
                case "text-delta":
                    yield Record("", None, json.dumps({"text": part["delta"]}))
                case "finish" | "abort" | "error":
                    status = "complete" if part["type"] == "finish" else part["type"]
                    yield Record("", "end", json.dumps({"status": status}))


class JsonLinesParser:
    """JSON Lines; lines end only with LF, and an empty one is a heartbeat."""

    media_type = "application/jsonl"

    def __init__(self) -> None:
        self._unread = b""
        self.last_event_id = ""

    def feed(self, data: bytes) -> Iterator[Record]:
        """Return the records that are complete; the data of text is a JSON string."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in filter(None, lines):
            record: dict[str, Any] = json.loads(line.decode())
            self.last_event_id = record.get("id") or self.last_event_id
            content = record["data"]
            text = content if isinstance(content, str) else json.dumps(content)
            yield Record(self.last_event_id, record["event"], text)
