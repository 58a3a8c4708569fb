"""Readers: the formats in which the events of a run are sent to one follower.

A reader is a small class: `encode` returns the bytes of an event, `ended` those of the end. The log
of a run is the same for all of them. Sources: WHATWG HTML, section 9.2 (server-sent events);
jsonlines.org.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import pydantic_core

from ...streams.content import escape_line_ends
from ..ring import Event
from ..streams import STREAMED, sse_event, sse_frame
from ..subscription import Reset


class End(NamedTuple):
    """How a run has ended: "complete", "stopped", "failed" or "interrupted".

    `id` is that of its last event; `problem` is a problem document (RFC 9457) if it failed.
    """

    id: str
    status: str
    problem: Mapping[str, Any] | None = None

    @property
    def detail(self) -> str:
        """The reason for a person, empty for a complete run."""
        if self.problem is not None:
            return str(self.problem.get("detail") or self.problem.get("title"))
        return "" if self.status == "complete" else f"The run was {self.status}."


class Reader:
    """Encodes the events of a run for one follower, so it may remember the events before.

    A subclass is a format. One whose clients cannot continue after an event is always read from the
    beginning, and ends with a failure if events are missing.
    """

    media_type: ClassVar[str] = "text/event-stream"
    headers: ClassVar[Mapping[str, str]] = STREAMED
    #: Sent after some seconds of silence.
    heartbeat: ClassVar[bytes] = b":\n"
    #: Whether its clients reconnect by themselves, and continue after the last event received.
    resumes: ClassVar[bool] = False

    def begin(self, retry: float) -> bytes:
        """Return the first bytes; clients should reconnect `retry` seconds after a failure."""
        return b""

    def encode(self, event: Event) -> bytes:
        """Return the bytes of an event, empty if the format has nothing for it."""
        raise NotImplementedError

    def ended(self, end: End) -> bytes | None:
        """Return the last bytes; None aborts the connection, if the format has no form for it."""
        raise NotImplementedError

    def gap(self, reset: Reset) -> bytes:
        """Return the record of missing events; only for a format that `resumes`."""
        raise NotImplementedError

    def reconnect(self, retry_after: float) -> bytes:
        """Return the record that asks the client to reconnect; only for one that `resumes`."""
        raise NotImplementedError

    def reauth(self) -> bytes | None:
        """Return the record that asks the client to authenticate again."""
        detail = "The credential is no longer valid."
        return self.ended(End("", "failed", {"status": 401, "title": detail, "detail": detail}))

    def failed(self, problem: Mapping[str, Any]) -> bytes | None:
        """Return the record of a failure of this response, not of the run."""
        return self.ended(End("", "failed", problem))


class EventStreamReader(Reader):
    """Server-Sent Events; the last one is `end`."""

    resumes = True

    def begin(self, retry: float) -> bytes:
        # Unlike other streams, send no event that has an id and no data: some clients of runs parse
        # the data of every event, and a client without a position begins at the beginning anyway.
        return f"retry: {retry * 1000:.0f}\n".encode()

    def encode(self, event: Event) -> bytes:
        return event.frame(sse_event)  # Shared by all followers.

    def ended(self, end: End) -> bytes:
        return sse_frame(_end_of(end), event="end", event_id=end.id)

    def gap(self, reset: Reset) -> bytes:
        return sse_frame(json.dumps(reset._asdict()), event="reset", event_id=reset.top)

    def reconnect(self, retry_after: float) -> bytes:
        return f"retry: {retry_after * 1000:.0f}\n".encode() + sse_frame("{}", event="reconnect")

    def reauth(self) -> bytes:
        return sse_frame("{}", event="reauth")

    def failed(self, problem: Mapping[str, Any]) -> bytes:
        return sse_frame(json.dumps(problem), event="error")


class JsonLinesReader(Reader):
    """JSON Lines: an object with `id`, `event` and `data` for each event; the last one is `end`."""

    media_type = "application/jsonl"
    heartbeat = b"\n"
    resumes = True

    def encode(self, event: Event) -> bytes:
        message = event.message
        data = message.data if message.is_json else json.dumps(message.data)
        return _line(event.id, message.event, data)

    def ended(self, end: End) -> bytes:
        return _line(end.id, "end", _end_of(end))

    def gap(self, reset: Reset) -> bytes:
        return _line(reset.top, "reset", json.dumps(reset._asdict()))

    def reconnect(self, retry_after: float) -> bytes:
        return _line("", "reconnect", json.dumps({"retry": round(retry_after * 1000)}))

    def reauth(self) -> bytes:
        return _line("", "reauth", "{}")

    def failed(self, problem: Mapping[str, Any]) -> bytes:
        return _line("", "error", json.dumps(problem))


class TextReader(Reader):
    """The text of a run, without anything else; a failure aborts the connection."""

    media_type = "text/plain"
    heartbeat = b""

    def encode(self, event: Event) -> bytes:
        message = event.message
        if not message.is_json:
            return message.data.encode()
        data = pydantic_core.from_json(message.data)
        is_text = isinstance(data, dict) and data.get("type") == "text"
        return str(data["text"]).encode() if is_text else b""

    def ended(self, end: End) -> bytes | None:
        return b"" if end.status == "complete" else None


def _end_of(end: End) -> str:
    document: dict[str, Any] = {"status": end.status}
    if end.problem is not None:
        document["problem"] = end.problem
    return escape_line_ends(pydantic_core.to_json(document, fallback=str).decode())


def _line(event_id: str, event: str | None, data: str) -> bytes:
    first = f'"id":"{event_id}",' if event_id else ""
    return b"{" + f'{first}"event":{json.dumps(event)},"data":{data}'.encode() + b"}\n"
