"""`WS /topics/{topics}/ws`: subscribe and publish on one connection, in JSON text frames.

A client sends, with a `ref` of its own if it wants to know the answer by that:

* `{"type": "subscribe", "topics": […], "last_event_id"?}`, `{"type": "unsubscribe", "topics": […]}`
* `{"type": "publish", "topic", "data", "event"?, "key"?}`; `data` is any JSON

and gets:

* `{"type": "subscribed", "topics", "last_event_id", "ref"?}` when the connection opens, and for
  each `subscribe`; `last_event_id` is null when all of them were followed already
* `{"type": "unsubscribed", "topics", "ref"?}`: no event of them comes after this
* `{"type": "event", "id", "topic", "event", "data"}`
* `{"type": "reset", "topic", "reason", "top"}`: events were missed, up to `top`
* `{"type": "ack", "id", "ref"?}`, before the event itself comes
* `{"type": "error", "problem", "ref"?}`
* `{"type": "reconnect", "retry"}`: come back after so many milliseconds

The position to come back with is the last `id` of an event, `last_event_id` or `top`. Commands are
answered one after the other; a client that does not take the answers is not read on.

It is closed with 1012 when the client is to come back, 1003 and 1008 when it sends something else,
1009 when that is too long, 1013 when it reads too slowly, 1011 when the service failed.
Sources: RFC 6455, section 7.4 (close codes); ASGI 3.0.
"""

import asyncio
import json
import random
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, WebSocket
from starlette.types import Message as AsgiMessage

from ..kernel.admission import Admission, client_of
from ..kernel.exchange import Exchange, Outcome, SlowClient, StreamAborted, exchange_of
from ..kernel.kernel import kernel_of
from ..kernel.part import opened
from ..kernel.problem import Problem
from ..streams.pull import send_within
from ..streams.push import Channel
from . import frames
from .commands import Publish, Subscribe, Unsubscribe, parse_command
from .feed import Feed
from .hub import Hub
from .ring import Event
from .subscription import Reset
from .topics import offered_position, parse_topic, parse_topics

router = APIRouter()

#: Frames in a row that are no commands, after which nothing better is expected.
MAX_OFFENCES = 10


class WebSocketChannel(Channel):
    """One connection. The server pings, so there is no heartbeat of ours."""

    __slots__ = ("_client", "_close", "_feed", "_hub", "_publishing")

    heartbeat = b""

    def __init__(self, exchange: Exchange, hub: Hub, client: str) -> None:
        # Spread, so that clients which came at the same time do not come again at the same time.
        super().__init__(exchange, inf, hub.settings.max_age * random.uniform(0.8, 1.0))  # noqa: S311
        self._hub = hub
        self._client = client
        self._feed = Feed(hub, self.wake, _event_frame, _reset_frame, client)
        self._close = (1012, "Come back")
        self._publishing = False

    async def subscribe(
        self, names: tuple[str, ...], last_event_id: str | None, ref: int | str | None = None
    ) -> None:
        """Follow topics, and say so; raises what `Feed.follow` raises."""

        def confirm(position: str | None) -> bytes:
            return _frame("subscribed", ref, topics=names, last_event_id=position)

        if await self._feed.follow(names, offered_position(last_event_id), confirm):
            self.wake()
        else:
            await self._answer(confirm(None))

    def wake(self) -> None:
        if self.exchange.status:  # Accepted.
            super().wake()

    def take(self) -> bytes:
        if self._publishing:
            return b""
        try:
            frame = self._feed.take()
            if self._feed.has_had_enough:
                self.come_back()
            return frame
        except SlowClient:  # It does read, or it would have been cut: so it can be told.
            self._refuse(1013, "You read too slowly", Outcome.SLOW_CLIENT)
            return b""

    def close(self) -> None:
        self._feed.close()

    def farewell(self, retry_after: float) -> bytes:
        return _frame("reconnect", retry=round(retry_after * 1000))

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
                continue  # Goodbye has been said: there would be no answer.
            if (text := message.get("text")) is None:
                self._refuse(1003, "Text frames only", Outcome.REJECTED)
                continue
            offences = 0 if await self._obey(text) else offences + 1
            if offences == MAX_OFFENCES:
                self._refuse(1008, "These are no commands", Outcome.REJECTED)
            await asyncio.sleep(0)  # Others have their turn.
        if exchange.outcome is None and message.get("reason") is not None:
            # It was closed, and not just lost: by the client, or by the server for a bad frame.
            refused = message["code"] in (1002, 1007, 1008, 1009)
            exchange.outcome = Outcome.REJECTED if refused else Outcome.COMPLETE

    async def _obey(self, text: str) -> bool:
        """Do what the client asks for, and answer; False when it was no command."""
        try:
            command = parse_command(text)
        except Problem as problem:
            await self._answer_problem(problem)
            return False
        try:
            match command:
                case Subscribe():
                    await self.subscribe(command.names(), command.last_event_id, command.ref)
                case Unsubscribe(topics=topics):
                    self._feed.leave(topics)
                    await self._answer(_frame("unsubscribed", command.ref, topics=topics))
                case Publish():
                    await self._publish(command, text)
        except Problem as problem:
            await self._answer_problem(problem, command.ref)
        return True

    async def _publish(self, command: Publish, text: str) -> None:
        topic = parse_topic(command.topic)
        self._hub.rate.spend(self._client)
        message = command.message(text, self._hub.settings.max_event_size)
        self._publishing = True
        try:
            event_id = await self._hub.publish(topic, message)
            await self._answer(_frame("ack", command.ref, id=event_id))
        finally:
            self._publishing = False
        self.wake()

    async def _answer_problem(self, problem: Problem, ref: int | str | None = None) -> None:
        document = kernel_of(self.exchange.scope).describe(problem, self.exchange)
        await self._answer(_frame("error", ref, problem=document))

    async def _answer(self, body: bytes) -> None:
        await self._send_within({"type": "websocket.send", "text": body.decode()})

    async def _send_within(self, message: AsgiMessage) -> None:
        await send_within(self._send, message, self.exchange.limits.send_timeout)

    async def _send(self, message: AsgiMessage) -> None:
        try:
            if not self.exchange.response_complete:
                await self.exchange.send(message)
        except OSError:  # The client has left; `listen` will hear of it.
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
    return b'{"type":"event",' + frames.json_event(event)[1:]


def _reset_frame(reset: Reset) -> bytes:
    return _frame("reset", **reset._asdict())


@router.websocket("/{topics}/ws", dependencies=[Depends(Admission("realtime"))])
async def converse(
    topics: str,
    websocket: WebSocket,
    last_event_id: Annotated[str | None, Query()] = None,
) -> None:
    """Accept and return: the exchange runs the channel when the framework's stacks are released."""
    exchange = exchange_of(websocket.scope)
    channel = WebSocketChannel(exchange, opened(websocket.app, "hub"), client_of(websocket))
    # Not accepted yet: what this raises is still an answer of its own.
    await channel.subscribe(parse_topics(topics), last_event_id)
    exchange.channel = channel  # Closed by the exchange, whatever comes.
    await websocket.accept()
