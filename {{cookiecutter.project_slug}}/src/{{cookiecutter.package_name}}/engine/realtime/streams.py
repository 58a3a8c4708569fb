"""Topics as a response without end: Server-Sent Events, or JSON Lines of the same.

Sources: WHATWG HTML, section 9.2 (server-sent events); jsonlines.org.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from starlette.requests import HTTPConnection

from ..kernel.admission import client_of
from ..kernel.exchange import Exchange
from ..streams.push import Channel, PushResponse
from . import frames
from .hub import Hub
from .ring import Event
from .subscription import Reset, Subscription

HEADERS = {
    "Vary": "Accept",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold the stream back until its buffer is full.
}


class TopicChannel(Channel):
    """One subscriber; a subclass knows the format."""

    __slots__ = ("_encode", "_greeting", "subscription")

    def __init__(
        self, exchange: Exchange, subscription: Subscription, encode: Callable[[Event], bytes]
    ) -> None:
        settings = subscription.hub.settings
        # Spread, so that clients which came at the same time do not come again at the same time.
        max_age = settings.max_age * random.uniform(0.8, 1.0)  # noqa: S311
        super().__init__(exchange, settings.heartbeat, max_age)
        self._encode = encode
        self._greeting = self.greeting(subscription)
        self.subscription = subscription
        subscription.wake = self.wake

    def take(self) -> bytes:
        if self.subscription.has_had_enough:
            self.come_back()
            return b""
        reset, events = self.subscription.take()
        if len(events) == 1 and reset is None and not self._greeting:
            return events[0].frame(self._encode)  # Shared, not copied.
        greeting, self._greeting = self._greeting, b""
        told = b"" if reset is None else self.reset(reset)
        return greeting + told + b"".join([event.frame(self._encode) for event in events])

    def close(self) -> None:
        self.subscription.close()

    def greeting(self, subscription: Subscription) -> bytes:
        """Return what comes at once: proxies pass the head on with it."""
        raise NotImplementedError

    def reset(self, reset: Reset) -> bytes:
        """Return what tells of a gap."""
        raise NotImplementedError


class EventStreamChannel(TopicChannel):
    """A subscriber of Server-Sent Events."""

    __slots__ = ()

    #: A lone comment line: a whole block of comment is an empty event to some clients.
    heartbeat = b":\n"

    def __init__(self, exchange: Exchange, subscription: Subscription) -> None:
        encode = frames.sse_event_with_topic if subscription.several else frames.sse_event
        super().__init__(exchange, subscription, encode)

    def greeting(self, subscription: Subscription) -> bytes:
        retry = subscription.hub.settings.retry * 1000
        return f"retry: {retry:.0f}\nid: {subscription.event_id}\n\n".encode()

    def reset(self, reset: Reset) -> bytes:
        return frames.frame(json.dumps(reset._asdict()), event="reset", event_id=reset.top)

    def farewell(self, retry_after: float) -> bytes:
        return f"retry: {retry_after * 1000:.0f}\n".encode() + frames.frame("{}", event="reconnect")

    def failure(self, document: dict[str, Any]) -> bytes:
        return frames.frame(json.dumps(document), event="error")


def _line(event: Event) -> bytes:
    return frames.json_event(event) + b"\n"


class JsonLinesChannel(TopicChannel):
    """A subscriber of JSON Lines."""

    __slots__ = ()

    heartbeat = b"\n"

    def __init__(self, exchange: Exchange, subscription: Subscription) -> None:
        super().__init__(exchange, subscription, _line)

    def greeting(self, subscription: Subscription) -> bytes:
        return b"\n"

    def reset(self, reset: Reset) -> bytes:
        return frames.json_reset(reset) + b"\n"

    def farewell(self, retry_after: float) -> bytes:
        return _json_line("reconnect", {"retry": round(retry_after * 1000)})

    def failure(self, document: dict[str, Any]) -> bytes:
        return _json_line("error", document)


def _json_line(event: str, data: object) -> bytes:
    return json.dumps({"event": event, "data": data}).encode() + b"\n"


class TopicStream(PushResponse):
    """Subscribe the client to topics, from behind the last event that it has seen."""

    channel: type[EventStreamChannel | JsonLinesChannel]

    def __init__(self, hub: Hub, names: tuple[str, ...], last_event_id: str | None = None) -> None:
        super().__init__(HEADERS)
        self._hub = hub
        self._names = names
        self._last_event_id = last_event_id

    async def open(self, exchange: Exchange) -> Channel:
        client = client_of(HTTPConnection(exchange.scope))
        subscription = await self._hub.subscribe(self._names, self._last_event_id, client)
        return self.channel(exchange, subscription)


class EventStream(TopicStream):
    """As Server-Sent Events."""

    media_type = "text/event-stream"
    channel = EventStreamChannel


class EventLines(TopicStream):
    """As JSON Lines."""

    media_type = "application/jsonl"
    channel = JsonLinesChannel
