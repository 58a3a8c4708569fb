"""`WS /topics/{topics}/ws`: subscribe and publish on one connection, in JSON text frames.

A client sends these commands, with an optional `ref` that the response repeats:

* `{"type": "subscribe" | "unsubscribe", "topics": […], "last_event_id"?}`
* `{"type": "publish", "topic", "data", "event"?, "key"?}`; `data` is any JSON

and receives:

* `{"type": "subscribed", "topics", "last_event_id", "ref"?}` when the connection opens, and for
  each `subscribe`; `last_event_id` is null if all of them were followed already
* `{"type": "unsubscribed", "topics", "ref"?}`: no events of them follow
* `{"type": "event", "id", "topic", "event", "data"}`
* `{"type": "reset", "topic", "reason", "top"}`: events were missed, up to `top`
* `{"type": "ack", "id", "ref"?}`, before the event itself
* `{"type": "error", "problem", "ref"?}`
* `{"type": "reconnect", "retry"}`: reconnect after `retry` milliseconds

The position to resume from is the last `id` of an event, `last_event_id` or `top`. Commands are
executed one after the other; reading pauses while the client does not receive the responses.

Close codes: 1012 asks the client to reconnect, 4401 to authenticate again, 1003 and 1008 refuse
frames without a command, 1007 refuses text that is not UTF-8, 1009 refuses long frames, 1013 means
that the client reads too slowly, 1011 that the service failed.

Sources: RFC 6455, section 7.4 (close codes); ASGI 3.0.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, WebSocket
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import HTTPConnection
from starlette.types import Message as AsgiMessage

from ..kernel.access import asks_for, owner_seen_by, require
from ..kernel.admission import Admission, client_of
from ..kernel.body import TOO_LARGE
from ..kernel.exchange import Exchange, Outcome, SlowClient, StreamAborted, exchange_of
from ..kernel.kernel import BOUNDS, kernel_of
from ..kernel.part import opened
from ..kernel.problem import INVALID, Problem, invalid
from ..streams.deadlines import send_within
from ..streams.push import Channel
from .hub import Hub
from .messages import JSON, Message, parse_message
from .ring import Event
from .streams import json_event
from .subscription import Subscription
from .topics import (
    MAX_TOPICS,
    PUBLISH,
    Position,
    check_readable,
    check_writable,
    covers,
    offered_position,
    parse_topic,
    parse_topics,
)

router = APIRouter()

#: The number of successive frames without a command after which the connection is closed.
MAX_OFFENCES = 10

# ---- Commands


class _Command(BaseModel):
    # Strict: with a misspelt `last_event_id` the client would miss events.
    model_config = ConfigDict(extra="forbid", strict=True)

    ref: int | Annotated[str, Field(max_length=128)] | None = None
    """The response repeats it."""


class Subscribe(_Command):
    """Follow topics and prefixes, from the event after `last_event_id` or from now on."""

    type: Literal["subscribe"]
    topics: list[str]
    last_event_id: str | None = None


class Unsubscribe(_Command):
    """Stop following them."""

    type: Literal["unsubscribe"]
    topics: list[str]


class Publish(_Command):
    """Publish JSON on one topic."""

    type: Literal["publish"]
    topic: str
    data: Any
    event: str | None = None
    key: str | None = None

    def message(self, text: str, max_size: int) -> Message:
        """Return the message; `text` is that of the command.

        Raises Problem 413 for more than `max_size` bytes, and the problems of `parse_message`.
        """
        data = _text_of(text, "data").encode()
        if len(data) > max_size:
            detail = f"An event may have at most {max_size} bytes."
            raise Problem(413, detail, type=TOO_LARGE, limit=max_size)
        return parse_message(data, JSON, self.event, self.key)


Command = Subscribe | Unsubscribe | Publish

_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])
_COLON = re.compile(r":\s*")
# Numbers are not converted, as long ones take much time.
_SKIPPING = json.JSONDecoder(parse_int=str, parse_float=str)


def parse_command(text: str) -> Command:
    """Return the command in a frame; raises Problem 422 if it is not valid."""
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        # The first part of a location is the type.
        errors = [{**each, "loc": each["loc"][1:]} for each in found]
        raise invalid(errors, "The frame is not a command.") from None


def _text_of(text: str, member: str) -> str:
    """Return the value of a member as it is written, so that numbers keep all their digits.

    `text` is a JSON object that was parsed before, and has this member.
    """
    end = 0
    while True:
        name, end = _SKIPPING.raw_decode(text, text.index('"', end))
        start = next(_COLON.finditer(text, end)).end()
        _, end = _SKIPPING.raw_decode(text, start)
        if name == member:
            return text[start:end]


# ---- Several subscriptions as one


class _Followed:
    """One topic or prefix of a feed."""

    __slots__ = ("missed", "name", "reached", "since", "subscription", "waiting")

    def __init__(self, name: str, subscription: Subscription) -> None:
        self.name = name
        self.subscription = subscription
        #: The events after `since` and up to `reached` were sent.
        self.since = self.reached = subscription.position
        #: The end of its replay; the feed limits the replays of all its topics together.
        self.missed = -1.0
        if (replay := subscription.replay) is not None:
            self.missed, replay.left = replay.until, inf
        #: The next items, the last one first: a position, whether it follows the event of that
        #: position, and an event or a frame.
        self.waiting: list[tuple[int, bool, Event | bytes]] = []

    def fetch(self) -> bool:
        """Take items if none wait; return whether any wait."""
        if not self.waiting:
            reset, events = self.subscription.take()
            self.waiting = [(event.sequence, False, event) for event in reversed(events)]
            if reset is not None:
                self.since = Position.parse(reset.top).sequence
                frame = _frame("reset", **reset._asdict())
                self.waiting.append((self.since, True, frame))
        return bool(self.waiting)

    def has_sent(self, event: Event) -> bool:
        return self.since < event.sequence <= self.reached and covers(self.name, event.topic)


class Feed:
    """The topics of one connection, in the order of their events and each event once.

    Because of the order, the last position that the client receives is valid for all its topics.
    """

    __slots__ = ("_followed", "_hub", "_left", "_sender", "_wake", "_woken", "is_exhausted")

    def __init__(self, hub: Hub, sender: tuple[str, str | None], wake: Callable[[], None]) -> None:
        """`sender` is the client and the owner of `Hub.subscribe`.

        `wake` is called when there is something to take.
        """
        self._hub = hub
        self._sender = sender
        self._wake = wake
        self._followed: dict[str, _Followed] = {}
        #: Missed events that the connection may still send, and whether there are more of them.
        self._left = hub.settings.max_replay
        self.is_exhausted = False
        #: Topics that may have items.
        self._woken: set[_Followed] = set()

    async def follow(
        self, names: tuple[str, ...], last_event_id: str | None, confirm: Callable[[str], bytes]
    ) -> bool:
        """Follow topics that are not followed yet; return whether there were any.

        `confirm` returns the first frame for the position after which they begin. Raises Problem
        422 for more than MAX_TOPICS in all, and the problems of the hub; then none is followed.
        """
        new = [name for name in names if name not in self._followed]
        if len(self._followed) + len(new) > MAX_TOPICS:
            detail = f"A connection may follow at most {MAX_TOPICS} topics."
            raise Problem(422, detail, type=INVALID)
        opened: list[_Followed] = []
        try:
            for name in new:
                subscription = await self._hub.subscribe((name,), last_event_id, *self._sender)
                opened.append(_Followed(name, subscription))
        except BaseException:
            for followed in opened:
                followed.subscription.close()
            raise
        for followed in opened:
            self._followed[followed.name] = followed
            followed.subscription.wake = partial(self._wake_for, followed)
        self._woken.update(opened)
        if opened:
            first = min(opened, key=lambda followed: followed.since)
            first.waiting = [(first.since, True, confirm(first.subscription.event_id))]
        return bool(opened)

    def leave(self, names: list[str]) -> None:
        """Stop following topics."""
        for name in names:
            if (followed := self._followed.pop(name, None)) is not None:
                followed.subscription.close()
                self._woken.discard(followed)

    def close(self) -> None:
        self.leave(list(self._followed))

    def take(self) -> bytes:
        """Return the next frame; empty if there is none. Raises SlowClient."""
        while not self.is_exhausted and (followed := self._next()) is not None:
            number, _, item = followed.waiting[-1]
            is_missed = number <= followed.missed and not isinstance(item, bytes)
            if is_missed and self._left <= 0:
                BOUNDS["realtime.max_replay"] += 1
                self.is_exhausted = True
                break
            followed.reached = number
            followed.waiting.pop()
            if isinstance(item, bytes):
                return item
            if not self._is_repeated(item, followed):
                if is_missed:
                    self._left -= item.weight
                return item.frame(_event_frame)
        return b""

    def _next(self) -> _Followed | None:
        self._woken = {followed for followed in self._woken if followed.fetch()}
        return min(self._woken, key=lambda each: each.waiting[-1][:2], default=None)

    def _is_repeated(self, event: Event, followed: _Followed) -> bool:
        """Whether the event was sent for another name that covers its topic."""
        return len(self._followed) > 1 and any(
            each is not followed and each.has_sent(event) for each in self._followed.values()
        )

    def _wake_for(self, followed: _Followed) -> None:
        self._woken.add(followed)
        self._wake()


# ---- The connection


class WebSocketChannel(Channel):
    """One connection. The server sends pings, so the channel needs no heartbeat."""

    __slots__ = ("_client", "_close", "_feed", "_hub", "_publishing")

    heartbeat = b""

    def __init__(self, exchange: Exchange, hub: Hub, client: str) -> None:
        # Random, so that clients that connected at the same time reconnect at different times.
        super().__init__(exchange, inf, hub.settings.max_age * random.uniform(0.8, 1.0))  # noqa: S311
        self._hub = hub
        self._client = client
        sender = HTTPConnection(exchange.scope)
        self._feed = Feed(hub, (client, owner_seen_by(sender)), self.wake)
        self._close = (1012, "Reconnect")
        self._publishing = False

    async def subscribe(
        self, names: tuple[str, ...], last_event_id: str | None, ref: int | str | None = None
    ) -> None:
        """Follow topics and confirm that; raises the problems of `Feed.follow`, and 401 or 403."""
        check_readable(HTTPConnection(self.exchange.scope), names, self._hub.personal)

        def confirm(position: str | None) -> bytes:
            return _frame("subscribed", ref, topics=names, last_event_id=position)

        if await self._feed.follow(names, offered_position(last_event_id), confirm):
            self.wake()
        else:
            await self._reply(confirm(None))

    def wake(self) -> None:
        if self.exchange.status:  # Accepted.
            super().wake()

    def take(self) -> bytes:
        if self._publishing:
            return b""  # The event comes after its acknowledgement.
        try:
            frame = self._feed.take()
            if self._feed.is_exhausted:
                self.come_back()
            return frame
        except SlowClient:  # The client still reads, so it receives a reason.
            self._refuse(1013, "You read too slowly", Outcome.SLOW_CLIENT)
            return b""

    def close(self) -> None:
        self._feed.close()

    def farewell(self, retry_after: float) -> bytes:
        return _frame("reconnect", retry=round(retry_after * 1000))

    def expire(self) -> None:
        self._refuse(4401, "Authenticate again", Outcome.REJECTED)

    def failure(self, document: dict[str, Any]) -> bytes:
        return _frame("error", problem=document)

    async def write(self, body: bytes) -> None:
        await self._send({"type": "websocket.send", "text": body.decode()})

    async def end(self) -> None:
        code, reason = self._close
        await self._send_within({"type": "websocket.close", "code": code, "reason": reason})

    async def listen(self) -> None:
        try:
            await self._converse()
        except StreamAborted:
            raise
        except Exception as error:
            await self._report(error)
            raise StreamAborted(self.exchange.request_id) from error

    async def _converse(self) -> None:
        exchange, offences = self.exchange, 0
        while (message := await exchange.receive())["type"] != "websocket.disconnect":
            if self._last is not None:
                continue  # The connection is being closed, and cannot send a response.
            if (text := message.get("text")) is None:
                self._refuse(1003, "Text frames only", Outcome.REJECTED)
                continue
            offences = 0 if await self._execute(text) else offences + 1
            if offences == MAX_OFFENCES:
                self._refuse(1008, "These are no commands", Outcome.REJECTED)
            await asyncio.sleep(0)
        if exchange.outcome is None and message.get("reason") is not None:
            exchange.outcome = Outcome.COMPLETE  # Closed, not lost.

    async def _execute(self, text: str) -> bool:
        """Execute the command in a frame and respond; return False if it is not valid."""
        try:
            command = parse_command(text)
        except Problem as problem:
            await self._send_problem(problem)
            return False
        try:
            match command:
                case Subscribe():
                    names = parse_topics(",".join(command.topics))
                    await self.subscribe(names, command.last_event_id, command.ref)
                case Unsubscribe(topics=topics):
                    self._feed.leave(topics)
                    await self._reply(_frame("unsubscribed", command.ref, topics=topics))
                case Publish():
                    await self._publish(command, text)
        except Problem as problem:
            await self._send_problem(problem, command.ref)
        return True

    async def _publish(self, command: Publish, text: str) -> None:
        topic = parse_topic(command.topic)
        require(HTTPConnection(self.exchange.scope), PUBLISH + topic)
        check_writable(topic, self._hub.read_only)
        self._hub.rate.spend(self._client)
        message = command.message(text, self._hub.settings.max_event_size)
        self._publishing = True
        try:
            event_id = await self._hub.publish(topic, message)
            await self._reply(_frame("ack", command.ref, id=event_id))
        finally:
            self._publishing = False
        self.wake()

    async def _send_problem(self, problem: Problem, ref: int | str | None = None) -> None:
        document = kernel_of(self.exchange.scope).describe(problem, self.exchange)
        await self._reply(_frame("error", ref, problem=document))

    async def _reply(self, body: bytes) -> None:
        await self._send_within({"type": "websocket.send", "text": body.decode()})

    async def _send_within(self, message: AsgiMessage) -> None:
        await send_within(self._send, message, self.exchange.limits.send_timeout)

    async def _send(self, message: AsgiMessage) -> None:
        try:
            if not self.exchange.response_complete:
                await self.exchange.send(message)
        except OSError:  # The client has left; `listen` receives the disconnect.
            self.exchange.disconnected = True

    async def _report(self, cause: BaseException) -> None:
        await super()._report(cause)
        self._close = (1011, "Internal error")
        await self.end()

    def _refuse(self, code: int, reason: str, outcome: Outcome) -> None:
        if self._last is None:
            self._close = (code, reason)
            self.finish(b"", outcome)


def _frame(kind: str, ref: int | str | None = None, **members: Any) -> bytes:
    if ref is not None:
        members["ref"] = ref
    return json.dumps({"type": kind, **members}, separators=(",", ":")).encode()


def _event_frame(event: Event) -> bytes:
    return b'{"type":"event",' + json_event(event)[1:]


@router.websocket("/{topics}/ws", dependencies=[Depends(Admission("realtime"))])
@asks_for("topics:subscribe:{topics}")
async def converse(
    topics: str,
    websocket: WebSocket,
    last_event_id: Annotated[str | None, Query()] = None,
) -> None:
    """Accept and return: the exchange runs the channel after FastAPI has released its resources."""
    exchange = exchange_of(websocket.scope)
    channel = WebSocketChannel(exchange, opened(websocket.app, "hub"), client_of(websocket))
    # Not accepted yet, so that a problem becomes a response of its own.
    await channel.subscribe(parse_topics(topics), last_event_id)
    exchange.channel = channel  # Closed by the exchange, with any outcome.
    exchange.guarded = False
    await websocket.accept()
