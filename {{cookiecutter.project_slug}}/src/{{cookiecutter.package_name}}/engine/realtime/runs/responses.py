"""Runs as responses: a stream in the format of a reader, or one document after the end."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

import pydantic_core
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...kernel.exchange import Exchange, Outcome, StreamAborted
from ...kernel.kernel import kernel_of
from ...kernel.problem import Problem
from ...streams.push import SHARE, Channel, PushResponse
from ..messages import Message
from ..ring import Event
from ..settings import RealtimeSettings
from ..subscription import Reset
from .following import MISSING, Followed, report_gap
from .log import BEGIN, END, end_of
from .readers import EventStreamReader, Reader
from .runs import Runs

#: Seconds before the end of a drain at which responses end that clients would not repeat.
LAST_SECONDS = 1.0


class RunChannel(Channel):
    """A follower of a run, whose response ends after the last event."""

    __slots__ = (
        "_begin", "_followed", "_is_cut", "_left", "_past", "_reader", "heartbeat", "subscription",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        followed: Followed,
        reader: Reader,
        settings: RealtimeSettings,
        left: Callable[[], None],
    ) -> None:
        """`left` is called if the client leaves before the end, or is left without it."""
        max_age = settings.max_age * random.uniform(0.8, 1.0) if reader.resumes else inf  # noqa: S311
        super().__init__(exchange, settings.heartbeat, max_age)
        self.heartbeat = reader.heartbeat
        self.subscription = followed.subscription
        self._followed = followed
        self._past = deque(followed.past)
        self._reader = reader
        self._left = left
        #: Set after a gap in a format that has no form for it: the client gets no more.
        self._is_cut = False
        # Sent at once: some proxies hold the headers until then.
        self._begin = reader.begin(settings.retry)
        self.subscription.wake = self.wake

    def take(self) -> bytes:
        if self._is_cut:
            return b""
        body, self._begin = self._begin, b""
        followed, subscription = self._followed, self.subscription
        if followed.reset is not None or self._past:
            body += self._take_past()
            if body:
                return body
        if subscription.position < subscription.ring.floor:
            if followed.is_kept and self._reader.resumes:
                self.come_back()  # The client gets the log when it returns.
                return body
            report_gap(subscription)
        while True:
            reset, events = subscription.take()
            body += self._encoded(reset, events)
            if body or not events or self._is_cut:  # The format may have nothing for some events.
                return body

    def _encoded(self, reset: Reset | None, events: list[Event]) -> bytes:
        body = b"" if reset is None else self._gap(reset)
        for event in () if self._is_cut else events:
            if event.message.event == END:
                self._finish(self._reader.ended(end_of(event)), Outcome.COMPLETE)
            elif event.message.event != BEGIN:
                body += self._reader.encode(event)
        return body

    def _take_past(self) -> bytes:
        body = b""
        if self._followed.reset is not None:
            body = self._gap(self._followed.reset)
            self._followed.reset = None
        while self._past and len(body) < SHARE:
            body += self._reader.encode(self._past.popleft())
        return body

    def _gap(self, reset: Reset) -> bytes:
        """Return the record of missing events; a client that cannot read it gets no more."""
        if self._reader.resumes:
            return self._reader.gap(reset)
        self._is_cut = True
        problem = Problem(500, MISSING).document()
        self._finish(self._reader.failed(problem), Outcome.SERVER_ERROR)
        self._left()
        return b""

    def close(self) -> None:
        self.subscription.close()
        if self._last is None:
            self._left()

    def _finish(self, last_words: bytes | None, outcome: Outcome) -> None:
        if last_words is None:
            self.cut(StreamAborted(self.exchange.request_id))
        else:
            self.finish(last_words, outcome)

    def drain(self, retry_after: float) -> None:
        if self._reader.resumes:
            super().drain(retry_after)
        else:  # Its client would not return, and the run may still end in time.
            timeout = kernel_of(self.exchange.scope).drain.timeout
            later = asyncio.get_running_loop().call_later
            later(max(timeout - LAST_SECONDS, 0), self._interrupt)

    def _interrupt(self) -> None:
        problem = kernel_of(self.exchange.scope).drain.refusal()
        self._finish(self._reader.failed(problem.document()), Outcome.DRAINED)

    def expire(self) -> None:
        self._finish(self._reader.reauth(), Outcome.REJECTED)
        if not self._reader.resumes:
            self._left()

    def farewell(self, retry_after: float) -> bytes:
        return self._reader.reconnect(retry_after)

    def failure(self, document: dict[str, Any]) -> bytes:
        return self._reader.failed(document) or b""


class RunStream(PushResponse):
    """Send the events of a run in the format of a reader, by default Server-Sent Events.

    It begins after `last_event_id`, or with the run. With `stop_on_leave` the run is stopped if the
    client leaves before its end. Raises Problem 204 if there is nothing to follow. It does not
    check to whom the run belongs, unlike the engine's routes.
    """

    def __init__(
        self,
        runs: Runs,
        run_id: str,
        last_event_id: str | None = None,
        reader: Reader | None = None,
        *,
        stop_on_leave: bool = False,
    ) -> None:
        self._reader = reader or EventStreamReader()
        self.media_type = self._reader.media_type
        super().__init__(self._reader.headers)
        self._runs = runs
        self._run_id = run_id
        self._last_event_id = last_event_id if self._reader.resumes else None
        self._stop_on_leave = stop_on_leave

    async def open(self, exchange: Exchange) -> RunChannel:
        try:
            followed = await self._runs.follow(self._run_id, self._last_event_id)
        except BaseException:
            self._leave()
            raise
        if followed is None:
            raise Problem(204)
        settings = self._runs.hub.settings
        return RunChannel(exchange, followed, self._reader, settings, self._leave)

    def _leave(self) -> None:
        if self._stop_on_leave:
            self._runs.stop_later(self._run_id)


class RunResult(Response):
    """Wait for the end of a run, and send one JSON document.

    `render` returns it from the messages of the run, which are compacted if the run can do that. A
    run that is not complete is a Problem: its own if it failed, 410 if it was stopped, else 503.
    """

    def __init__(
        self,
        runs: Runs,
        run_id: str,
        render: Callable[[list[Message]], object],
        *,
        stop_on_leave: bool = False,
    ) -> None:
        super().__init__()
        self._runs = runs
        self._run_id = run_id
        self._render = render
        self._stop_on_leave = stop_on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = await self._wait(receive)
        headers = dict(self.headers)
        del headers["content-length"]
        body = pydantic_core.to_json(document, inf_nan_mode="null")
        await Response(body, headers=headers, media_type="application/json")(scope, receive, send)

    async def _wait(self, receive: Receive) -> object:
        """Return the document; raise ClientDisconnect if the client leaves before that."""
        result = asyncio.ensure_future(self._runs.result(self._run_id))
        left = asyncio.ensure_future(_leaving(receive))
        try:
            await asyncio.wait({result, left}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            messages, last = result.result()
        except BaseException:
            if self._stop_on_leave:
                self._runs.stop_later(self._run_id)
            raise
        finally:
            result.cancel()
            left.cancel()
        end = end_of(last)
        if end.status == "complete":
            return self._render(messages)
        # Clients repeat a request after 503, and would start the run again that was stopped.
        status = 410 if end.status == "stopped" else 503
        problem = dict(end.problem or {"status": status})
        raise Problem(int(problem["status"]), end.detail)


async def _leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
