"""Topics as responses: Server-Sent Events and JSON Lines without end, and one JSON per long-poll.

Sources: WHATWG HTML, section 9.2 (server-sent events); jsonlines.org; RFC 6202, section 2 (HTTP
long polling).
"""

import json
import random
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import pydantic_core
from fastapi import Depends, Header, Query
from starlette.requests import HTTPConnection

from ..kernel.access import owner_seen_by
from ..kernel.admission import client_of
from ..kernel.exchange import Exchange, Outcome
from ..streams.push import Channel, PushResponse
from .hub import Hub
from .ring import Event
from .settings import RealtimeSettings
from .subscription import Reset, Subscription
from .topics import offered_position

STREAMED = {
    "Vary": "Accept",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # Otherwise nginx buffers the stream.
}
_NEWLINE = re.compile(r"\r\n|\r|\n")

# ---- Encodings; `Event.frame` keeps those of an event for all subscribers


def sse_frame(data: str, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode one event; each line of the data is a field, so that data cannot forge an event."""
    fields = [f"data: {line}" for line in _NEWLINE.split(data)]
    if event is not None:
        fields.insert(0, f"event: {event}")
    if event_id is not None:
        fields.insert(0, f"id: {event_id}")
    return ("\n".join(fields) + "\n\n").encode()


def sse_event(event: Event) -> bytes:
    """Encode an event for a subscription to one topic."""
    return sse_frame(event.message.data, event=event.message.event, event_id=event.id)


def sse_event_with_topic(event: Event) -> bytes:
    """Encode an event for a subscription to several topics: the data contains its topic."""
    data = '{"topic":' + _content(event) + "}"
    return sse_frame(data, event=event.message.event, event_id=event.id)


def json_event(event: Event) -> bytes:
    """Encode an event as a JSON object: `id`, `topic`, `event` (or null) and `data`."""
    return ('{"id":"' + event.id + '","topic":' + _content(event) + "}").encode()


def json_line(event: Event) -> bytes:
    return json_event(event) + b"\n"


def json_reset(reset: Reset) -> bytes:
    """Encode a gap like an event."""
    event = {"id": reset.top, "topic": reset.topic, "event": "reset", "data": reset._asdict()}
    return json.dumps(event, separators=(",", ":")).encode()


def _content(event: Event) -> str:
    message = event.message
    name = "null" if message.event is None else f'"{message.event}"'
    # JSON is copied as it was published, so that numbers keep all their digits.
    data = message.data if message.is_json else json.dumps(message.data)
    return f'"{event.topic}","event":{name},"data":{data}'


# ---- Their schemas, for OpenAPI

_ID = {"type": "string", "pattern": "^[0-9a-z]+-[0-9]+$"}

SSE_EVENT: dict[str, Any] = {
    "title": "ServerSentEvent",
    "type": "object",
    "properties": {
        "id": _ID,
        "event": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
    "required": ["data"],
}
#: Records of the service itself (`reset`, `reconnect`, `error`) can be without a topic.
JSON_EVENT: dict[str, Any] = {
    "title": "TopicEvent",
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
    "anyOf": [
        {
            "title": "PolledEvents",
            "type": "object",
            "properties": {
                "events": {"type": "array", "items": JSON_EVENT},
                "last_event_id": _ID,
            },
            "required": ["events", "last_event_id"],
        },
        {
            "title": "PollFailure",
            "type": "object",
            "properties": {
                "error": {"type": "object", "description": "The problem that ended the wait."}
            },
            "required": ["error"],
        },
    ]
}


# ---- Channels


class TopicChannel(Channel):
    """One subscriber of a stream without end; a subclass defines the format."""

    __slots__ = ("_encode", "_greeting", "subscription")

    def __init__(
        self, exchange: Exchange, subscription: Subscription, settings: RealtimeSettings
    ) -> None:
        # Random, so that clients that connected at the same time reconnect at different times.
        max_age = settings.max_age * random.uniform(0.8, 1.0)  # noqa: S311
        super().__init__(exchange, settings.heartbeat, max_age)
        self._encode = self.encoding(subscription)
        self._greeting = self.greeting(subscription, settings)
        self.subscription = subscription
        subscription.wake = self.wake

    def take(self) -> bytes:
        if self.subscription.is_exhausted:
            self.come_back()
            return b""
        reset, events = self.subscription.take()
        if len(events) == 1 and reset is None and not self._greeting:
            return events[0].frame(self._encode)  # Shared, not copied.
        body, self._greeting = self._greeting, b""
        if reset is not None:
            body += self.reset(reset)
        return body + b"".join([event.frame(self._encode) for event in events])

    def close(self) -> None:
        self.subscription.close()

    def encoding(self, subscription: Subscription) -> Callable[[Event], bytes]:
        """Return the encoding of the events."""
        raise NotImplementedError

    def greeting(self, subscription: Subscription, settings: RealtimeSettings) -> bytes:
        """Return the first bytes, sent at once: some proxies hold the headers until then."""
        return b"\n"

    def reset(self, reset: Reset) -> bytes:
        """Return the record of a gap."""
        raise NotImplementedError


class EventStreamChannel(TopicChannel):
    """A subscriber of Server-Sent Events."""

    __slots__ = ()

    #: A single comment line: some clients report a block of only a comment as an empty event.
    heartbeat = b":\n"

    def encoding(self, subscription: Subscription) -> Callable[[Event], bytes]:
        return sse_event_with_topic if subscription.several else sse_event

    def greeting(self, subscription: Subscription, settings: RealtimeSettings) -> bytes:
        return _retry(settings.retry) + f"id: {subscription.event_id}\n\n".encode()

    def reset(self, reset: Reset) -> bytes:
        return sse_frame(json.dumps(reset._asdict()), event="reset", event_id=reset.top)

    def farewell(self, retry_after: float) -> bytes:
        return _retry(retry_after) + sse_frame("{}", event="reconnect")

    def reauth(self) -> bytes:
        return sse_frame("{}", event="reauth")

    def failure(self, document: dict[str, Any]) -> bytes:
        return sse_frame(json.dumps(document), event="error")


class UnopenedEventStreamChannel(EventStreamChannel):
    """A subscriber whose client would report the opening block as an empty event."""

    __slots__ = ()

    def greeting(self, subscription: Subscription, settings: RealtimeSettings) -> bytes:
        return _retry(settings.retry)  # A field of the first event.


def _retry(seconds: float) -> bytes:
    return f"retry: {seconds * 1000:.0f}\n".encode()


class JsonLinesChannel(TopicChannel):
    """A subscriber of JSON Lines."""

    __slots__ = ()

    heartbeat = b"\n"

    def encoding(self, subscription: Subscription) -> Callable[[Event], bytes]:
        return json_line

    def reset(self, reset: Reset) -> bytes:
        return json_reset(reset) + b"\n"

    def farewell(self, retry_after: float) -> bytes:
        return _line_of("reconnect", {"retry": round(retry_after * 1000)})

    def reauth(self) -> bytes:
        return _line_of("reauth", {})

    def failure(self, document: dict[str, Any]) -> bytes:
        return _line_of("error", document)


def _line_of(event: str, data: object) -> bytes:
    return json.dumps({"event": event, "data": data}).encode() + b"\n"


class PollChannel(Channel):
    """A client that waits at most `seconds` for its response."""

    __slots__ = ("_at_once", "subscription")

    heartbeat = b""

    def __init__(
        self,
        exchange: Exchange,
        subscription: Subscription,
        settings: RealtimeSettings,
        seconds: float,
    ) -> None:
        seconds = min(seconds, settings.max_age)
        super().__init__(exchange, seconds + 1, seconds)
        self._at_once = seconds == 0
        self.subscription = subscription
        subscription.wake = self.wake

    def take(self) -> bytes:
        reset, events = self.subscription.take()
        found = [] if reset is None else [json_reset(reset)]
        found += [event.frame(json_event) for event in events]
        if found or self._at_once:
            self.finish(self._document(found), Outcome.COMPLETE)
        return b""

    def close(self) -> None:
        self.subscription.close()

    def farewell(self, retry_after: float) -> bytes:
        return self._document([])

    def reauth(self) -> bytes:
        return self._document([])  # The next request gets 401.

    def failure(self, document: dict[str, Any]) -> bytes:
        return pydantic_core.to_json({"error": document})

    def _document(self, events: list[bytes]) -> bytes:
        position = self.subscription.event_id.encode()
        return b'{"events":[%b],"last_event_id":"%b"}' % (b",".join(events), position)


# ---- Responses


class TopicResponse(PushResponse):
    """Subscribes the client to topics, from the event after the last one that it has received."""

    fields: ClassVar[Mapping[str, str]] = STREAMED
    channel: Callable[[Exchange, Subscription, RealtimeSettings], Channel]

    def __init__(self, hub: Hub, names: tuple[str, ...], last_event_id: str | None = None) -> None:
        super().__init__(self.fields)
        self._hub = hub
        self._names = names
        self._last_event_id = last_event_id

    async def open(self, exchange: Exchange) -> Channel:
        sender = HTTPConnection(exchange.scope)
        subscription = await self._hub.subscribe(
            self._names, self._last_event_id, client_of(sender), owner_seen_by(sender)
        )
        return self.channel(exchange, subscription, self._hub.settings)


class EventStream(TopicResponse):
    """Server-Sent Events."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        names: tuple[str, ...],
        last_event_id: str | None = None,
        *,
        opening: bool = True,
    ) -> None:
        """`opening` begins with a block that has only the current position, as `id`.

        A client that follows the standard reconnects with it, and dispatches no event. Others
        report an empty event, and need `opening=False`.
        """
        super().__init__(hub, names, last_event_id)
        self.channel = EventStreamChannel if opening else UnopenedEventStreamChannel


class EventLines(TopicResponse):
    """JSON Lines."""

    media_type = "application/jsonl"
    channel = JsonLinesChannel


class Poll(TopicResponse):
    """One JSON document with the next events, as soon as there are any."""

    media_type = "application/json"
    fields: ClassVar[Mapping[str, str]] = {"Cache-Control": "no-store"}

    def __init__(
        self, hub: Hub, names: tuple[str, ...], last_event_id: str | None, seconds: float
    ) -> None:
        super().__init__(hub, names, last_event_id)
        self.channel = partial(PollChannel, seconds=seconds)


async def last_event(
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
    last_event_id_query: Annotated[
        str | None, Query(alias="last_event_id", description="For clients without headers.")
    ] = None,
) -> str | None:
    """Return the position to resume from; the header, which browsers update, takes precedence."""
    return offered_position(last_event_id, last_event_id_query)


LastEventId = Annotated[str | None, Depends(last_event)]
