"""Long-poll: one answer per request, as soon as there is something, for clients without streams.

Source: RFC 6202, section 2 (HTTP long polling).
"""

from typing import Any

import pydantic_core
from starlette.requests import HTTPConnection

from ..kernel.admission import client_of
from ..kernel.exchange import Exchange, Outcome
from ..streams.push import Channel, PushResponse
from . import frames
from .hub import Hub
from .subscription import Subscription


class PollChannel(Channel):
    """A client that waits for at most so many seconds."""

    __slots__ = ("_at_once", "subscription")

    heartbeat = b""

    def __init__(self, exchange: Exchange, subscription: Subscription, seconds: float) -> None:
        seconds = min(seconds, subscription.hub.settings.max_age)
        super().__init__(exchange, seconds + 1, seconds)
        self._at_once = seconds == 0
        self.subscription = subscription
        subscription.wake = self.wake

    def take(self) -> bytes:
        reset, events = self.subscription.take()
        found = [] if reset is None else [frames.json_reset(reset)]
        found += [event.frame(frames.json_event) for event in events]
        if found or self._at_once:
            self.finish(self._answer(found), Outcome.COMPLETE)
        return b""

    def close(self) -> None:
        self.subscription.close()

    def farewell(self, retry_after: float) -> bytes:
        return self._answer([])

    def failure(self, document: dict[str, Any]) -> bytes:
        return pydantic_core.to_json({"error": document})

    def _answer(self, events: list[bytes]) -> bytes:
        position = self.subscription.event_id.encode()
        return b'{"events":[%b],"last_event_id":"%b"}' % (b",".join(events), position)


class Poll(PushResponse):
    """Answer with the events behind the last one that the client has seen, once there are any."""

    media_type = "application/json"

    def __init__(
        self, hub: Hub, names: tuple[str, ...], last_event_id: str | None, seconds: float
    ) -> None:
        super().__init__({"Cache-Control": "no-store"})
        self._hub = hub
        self._names = names
        self._last_event_id = last_event_id
        self._seconds = seconds

    async def open(self, exchange: Exchange) -> PollChannel:
        client = client_of(HTTPConnection(exchange.scope))
        subscription = await self._hub.subscribe(self._names, self._last_event_id, client)
        return PollChannel(exchange, subscription, self._seconds)
