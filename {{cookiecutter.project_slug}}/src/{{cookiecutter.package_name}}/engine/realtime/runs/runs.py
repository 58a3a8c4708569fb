"""Runs: jobs that continue when the client has left, and are followed as an event stream.

The events of a run are those of the topic `run:ID`, so that any process of a shared broker can
follow and resume it; no client can name such a topic. The last event is always `end`: if the
process of a run is gone, another process publishes it.
"""

import asyncio
import hashlib
import inspect
import logging
import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import Annotated, Any, TypeVar, cast

import pydantic_core
from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from ...kernel.access import current_principal, owner_seen_by
from ...kernel.admission import Admission, client_of
from ...kernel.body import RequestBody, whole_request
from ...kernel.exchange import Exchange, Outcome
from ...kernel.kernel import BOUNDS, Measure
from ...kernel.origins import base_of
from ...kernel.part import opened
from ...kernel.problem import Problem, ProblemType
from ...kernel.threads import repeating
from ...streams.content import require_text
from ..hub import Hub
from ..messages import JSON, Message, Once, message_of
from ..ring import Ring
from ..settings import RealtimeSettings
from ..streams import SSE_EVENT, EventStream, EventStreamChannel, LastEventId
from ..subscription import Subscription

TOO_MANY_RUNS = ProblemType(
    "too-many-runs",
    "Too many runs",
    "The number of runs is limited, for all clients together (503) and for each client (429), so"
    " this one was not started. Stop a run, or try again after the seconds in `Retry-After`.",
)
#: The topics of a run's events and of its stop signal, and the topic of the runs that are alive.
EVENTS, STOP, ALIVE = "run:", "stop:", "runs:alive"
#: The types of the first event of a run, which is not sent to clients, and of the last.
BEGIN, END = "(begin)", "end"
#: Seconds between two reports of a process about its runs, and the number of missing reports
#: after which a run is lost.
ALIVE_SECONDS, LOST_AFTER = 5.0, 4
#: Seconds between two attempts to publish an event.
RETRY_SECONDS = 1.0
#: Seconds that runs have to end when the service ends.
CLOSE_SECONDS = 1.0

#: Random digits, and those of the owner, if there is one.
_ID = re.compile(r"[0-9a-f]{32}([0-9a-f]{16})?", re.ASCII)

T = TypeVar("T")
Run = TypeVar("Run", bound=Callable[..., AsyncGenerator[Any]])

logger = logging.getLogger(__name__)


class Runs:
    """Starts, follows and stops runs."""

    def __init__(self, hub: Hub, have_owners: bool) -> None:
        self.hub = hub
        self._have_owners = have_owners
        #: The runs of each client that are starting, active, or publishing their end.
        self._clients: Counter[str] = Counter()
        self._running: dict[str, asyncio.Task[None]] = {}
        #: The active runs, and those that are publishing their end.
        self._tasks: set[asyncio.Task[None]] = set()
        #: Known runs of all processes, with the number of successive reports without each.
        self._silent: dict[str, int] = {}
        self._heard: set[str] = set()
        self._alive: Subscription | None = None

    async def start(self, messages: AsyncGenerator[Any], client: str = "") -> str:
        """Publish the items of a generator, until its end, and return the id of this run.

        An item is text, a Message, or anything that pydantic serializes to JSON. Raises Problem 503
        if there are too many runs, or if the broker is unavailable; 429 if `client` has too many.
        An empty `client` has no limit of its own. With access control, a `client` is the id of a
        principal, and only that and `admin` can use the engine's routes of the run.
        """
        self._check(client)
        self._clients[client] += 1
        digits = secrets.token_hex(16)
        run_id = _owned(digits, client) if client and self._have_owners else digits
        try:
            await self.hub.publish(EVENTS + run_id, Message("", BEGIN))
            stop = await self.hub.subscribe((STOP + run_id,))
        except BaseException:
            self._release(client)
            raise
        task = self._running[run_id] = asyncio.create_task(self._run(run_id, messages, stop))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._release(client))

        def cancel() -> None:
            if stop.lag:  # Otherwise it was woken because of a gap.
                _cancel(task)

        stop.wake = cancel
        return run_id

    def _check(self, client: str) -> None:
        settings, soon = self.hub.settings, {"Retry-After": "5"}
        if client and self._clients[client] >= settings.max_runs_per_client:
            BOUNDS["realtime.max_runs_per_client"] += 1
            raise Problem(429, "You have too many runs.", type=TOO_MANY_RUNS, headers=soon)
        if self._clients.total() >= settings.max_runs:
            BOUNDS["realtime.max_runs"] += 1
            raise Problem(503, "Too many runs.", type=TOO_MANY_RUNS, headers=soon)

    def _release(self, client: str) -> None:
        self._clients -= Counter((client,))  # Drops a count of 0.

    async def follow(self, run_id: str, last_event_id: str | None = None) -> Subscription | None:
        """Follow a run from the event after `last_event_id`, or from its beginning.

        Returns None if there is no such run, or no event of it after that one. Raises Problem 503.
        """
        if not _ID.fullmatch(run_id):
            return None
        subscription = await self.hub.subscribe((EVENTS + run_id,), last_event_id)
        ring = subscription.ring
        first = ring.first()
        if subscription.event_id != last_event_id:
            subscription.position = ring.floor
        if first is not None and first.message.event == BEGIN:
            subscription.position = max(subscription.position, first.sequence)
        elif last_event_id is None:
            _report_gap(subscription)
        known = first or run_id in self._running or run_id in self._silent
        if not known or (_has_ended(ring) and subscription.position >= ring.last):
            subscription.close()
            return None
        return subscription

    def count(self) -> int:
        """Return the number of active runs of this process."""
        return len(self._tasks)

    async def stop(self, run_id: str) -> None:
        """Stop a run of any process; raises Problem 404 for an unknown one, and 503."""
        subscription = await self.follow(run_id)
        if subscription is None:
            raise Problem(404, "There is no such run.")
        subscription.close()
        if not _has_ended(subscription.ring):
            await self.hub.publish(STOP + run_id, Message(""))

    async def tend(self) -> None:
        """Report the runs of this process; end followed runs of processes that are gone."""
        backend = self.hub.backend
        # Otherwise no report can arrive, so a missing one means nothing.
        if not (backend.up and backend.publishes):
            self._silent = dict.fromkeys(self._silent, 0)
            return
        # A process without runs also publishes while it counts missing reports, so that it knows
        # whether reports arrive.
        if self._running or self._silent:
            await self.hub.publish(ALIVE, Message(" ".join(self._running)))
        if self._alive is None:
            alive = self._alive = await self.hub.subscribe((ALIVE,))
            alive.wake = lambda: self._hear(alive)
        heard, self._heard = self._heard.union(self._running), set()
        followed = {
            subscription.names[0].removeprefix(EVENTS)
            for subscription in self.hub.subscriptions()
            if subscription.names[0].startswith(EVENTS) and not _has_ended(subscription.ring)
        }
        # Reports are counted, not seconds: a process that was suspended has received none.
        silent = {run_id: self._silent.get(run_id, 0) + 1 for run_id in followed | {*self._silent}}
        lost = {run_id for run_id, rounds in silent.items() if rounds > LOST_AFTER} - heard
        self._silent = {run_id: silent[run_id] for run_id in silent.keys() - lost}
        self._silent |= dict.fromkeys(heard, 0)
        for run_id in lost & followed:
            await self.hub.publish(STOP + run_id, Message(""))  # In case it is still alive.
            await self._end(run_id, "interrupted")

    def _hear(self, alive: Subscription) -> None:
        for event in alive.take()[1]:
            self._heard.update(event.message.data.split())

    async def close(self) -> None:
        """Interrupt all runs, and wait until they have ended."""
        for task in self._running.values():
            _cancel(task)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()  # The broker is unavailable, or the generator does not end.

    async def _run(self, run_id: str, messages: AsyncGenerator[Any], stop: Subscription) -> None:
        status, problem = "complete", None
        loop, age = asyncio.get_running_loop(), self.hub.settings.max_run_age
        ends_at = loop.time() + age
        # A timeout would cancel the cleanup of a generator that was stopped before.
        timer = loop.call_at(ends_at, _cancel, self._running[run_id])
        try:
            async with aclosing(messages):
                async for message in messages:
                    await self._publish(EVENTS + run_id, message_of(message))
                    await asyncio.sleep(0)  # Let other tasks run: the generator may never wait.
        except asyncio.CancelledError:
            status = "stopped" if stop.lag else "interrupted"
            if not stop.lag and loop.time() >= ends_at:
                BOUNDS["realtime.max_run_age"] += 1
                status = "failed"
                problem = Problem(504, f"A run is ended after {age:g} seconds.")
        except Exception as error:
            status, problem = "failed", Problem.of(error)
            if problem is not error:
                logger.exception("Run %s failed", run_id)
        finally:
            # From here on it cannot be cancelled.
            timer.cancel()
            stop.close()
            del self._running[run_id]
        await self._end(run_id, status, problem)

    async def _end(self, run_id: str, status: str, problem: Problem | None = None) -> None:
        end: dict[str, Any] = {"status": status}
        if problem is not None:
            end["problem"] = problem.document()
        text = pydantic_core.to_json(end, fallback=str).decode()
        once = Once(EVENTS + run_id, END)
        await self._publish(EVENTS + run_id, Message(text, END, is_json=True), once)

    async def _publish(self, topic: str, message: Message, once: Once | None = None) -> None:
        """Publish a message, and repeat that until the broker is available."""
        while True:
            try:
                await self.hub.publish(topic, message, once)
            except Problem as problem:
                if problem.status_code != 503:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


def _owned(digits: str, owner: str) -> str:
    """Return the id of a run, which has the owner in it: the events can be evicted."""
    return digits + hashlib.sha256(f"{digits} {owner}".encode()).hexdigest()[:16]


def _has_ended(ring: Ring) -> bool:
    """Whether the newest event of a run's topic is its last."""
    newest = ring.after(max(ring.floor, ring.last - 1))
    return bool(newest) and newest[-1].message.event == END


def _report_gap(subscription: Subscription) -> None:
    """Report that events are gone, and continue with all that are left, which include the end."""
    subscription.report_gap("evicted")
    subscription.position = subscription.ring.floor


def _cancel(task: "asyncio.Task[None]") -> None:
    """Cancel a task once: a second time would cancel the cleanup of the generator."""
    if not task.cancelling():
        task.cancel()


# ---- Routes


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    hub: Hub = app.state.hub
    runs = app.state.runs = Runs(hub, have_owners=app.state.kernel.challenge is not None)
    measure = Measure("realtime_runs", "Active runs.", "sum", runs.count)
    app.state.kernel.measures.append(measure)
    shared = hub.settings.broker_url != "memory:"
    async with repeating(ALIVE_SECONDS, runs.tend) if shared else nullcontext():
        try:
            yield
        finally:
            await runs.close()


router = APIRouter(tags=["runs"], lifespan=_lifespan)

_START = "runs:start"
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


async def runs_of(request: Request) -> Runs:
    """Return the runs of the application, as a dependency."""
    runs: Runs = opened(request.app, "runs")
    return runs


RunsDep = Annotated[Runs, Depends(runs_of)]
"""The runs of the service, as a parameter of a path operation: `start`, `follow`, `stop`."""


async def _visible(
    request: Request,
    run_id: Annotated[str, Path(description="The `id` of the response that started the run.")],
) -> str:
    """Return the id of a run; raises Problem 404 for a run of another owner."""
    owner = owner_seen_by(request)
    if owner is not None and run_id != _owned(run_id[:32], owner):
        raise Problem(404, "There is no such run.")
    return run_id


RunId = Annotated[str, Depends(_visible)]


class Started(BaseModel):
    """A run, and the address of its events."""

    id: str
    name: str
    events: str


_STARTED: dict[str, Any] = {
    "headers": {"Location": {"required": True, "schema": {"type": "string", "format": "uri"}}},
    "links": {
        name: {"operationRef": reference, "parameters": {"run_id": "$response.body#/id"}}
        for name, reference in [
            ("follow", "#/paths/~1runs~1{run_id}~1events/get"),
            ("stop", "#/paths/~1runs~1{run_id}~1stop/post"),
        ]
    },
}


class RunChannel(EventStreamChannel):
    """A follower of a run, whose response ends after the last event."""

    __slots__ = ()

    def greeting(self, subscription: Subscription, settings: RealtimeSettings) -> bytes:
        # Unlike other streams, send no event that has an id and no data: some clients of runs parse
        # the data of every event, and a client without a position begins at the beginning anyway.
        return f"retry: {settings.retry * 1000:.0f}\n".encode()

    def take(self) -> bytes:
        subscription = self.subscription
        if subscription.position < subscription.ring.floor:
            _report_gap(subscription)
        body = super().take()
        if not body and _has_ended(subscription.ring):
            self.finish(b"", Outcome.COMPLETE)
        return body


class RunStream(EventStream):
    """Send the events of a run as Server-Sent Events, from the event after `last_event_id`.

    Without `last_event_id` from its beginning. Raises Problem 204 if there is nothing to follow. It
    does not check to whom the run belongs, unlike the engine's routes.
    """

    def __init__(self, runs: Runs, run_id: str, last_event_id: str | None = None) -> None:
        super().__init__(runs.hub, (EVENTS + run_id,), last_event_id)
        self._runs = runs
        self._run_id = run_id

    async def open(self, exchange: Exchange) -> RunChannel:
        subscription = await self._runs.follow(self._run_id, self._last_event_id)
        if subscription is None:
            raise Problem(204)
        return RunChannel(exchange, subscription, self._hub.settings)


class RunRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of events."""

    def run(self, path: str, **options: Any) -> Callable[[Run], Run]:
        """Register a generator, `async def …(…) -> AsyncGenerator[…]`, for POST.

        Its parameters become the members of the JSON body that starts it, its docstring the
        documentation; its items (text, a `Message`, or anything that pydantic serializes to JSON)
        are the events. Stopping the run closes the generator: open resources with `async with` or
        `try … finally`. `options` are those of `APIRouter.post`.
        """

        def register(function: Run) -> Run:
            adapter: TypeAdapter[AsyncGenerator[Any]] = TypeAdapter(cast(Any, function))
            body = {"content": {"application/json": {"schema": adapter.json_schema()}}}
            status = options.get("status_code", 201)
            usual: dict[str, Any] = {
                "name": f"run_{function.__name__}",
                "status_code": status,
                "description": inspect.getdoc(function),
                "responses": {status: _STARTED, 413: {}, 415: {}, 422: {}, 429: {}, 503: {}},
                "openapi_extra": {"requestBody": body},
            }
            admission = Depends(Admission("realtime", _START))
            dependencies = [admission, *options.get("dependencies", ())]

            @self.post(path, **(usual | options | {"dependencies": dependencies}))
            async def start(request: Request, response: Response, runs: RunsDep) -> Started:
                # The adapter of a function calls it with the members of the body.
                messages = await read_json(request, adapter)
                run_id = await runs.start(messages, client_of(request))
                events = f"{base_of(request.scope)}/runs/{run_id}/events"
                response.headers["Location"] = events
                return Started(id=run_id, name=path.strip("/"), events=events)

            return function

        return register


async def read_json(request: Request, adapter: TypeAdapter[T]) -> T:
    """Return the JSON body as validated by a pydantic adapter; an empty body counts as `{}`.

    Raises Problem 413 above `APP_REALTIME__MAX_EVENT_SIZE`, 415 for other media types, 408 for a
    stalled body, and RequestValidationError (422).
    """
    limit = request.app.state.settings.realtime.max_event_size
    body = await RequestBody(request, limit=limit).read()
    if body:
        require_text(request, JSON)
    try:
        # The adapter of a function accepts a list, too, as positional arguments.
        _OBJECT.validate_json(body or b"{}")
        return adapter.validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        found = [{**each, "loc": ("body", *each["loc"])} for each in errors]
        raise RequestValidationError(found) from None


@router.get(
    "/runs/{run_id}/events",
    status_code=200,
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"itemSchema": SSE_EVENT}}},
        204: {"description": "There is no such run (any more), or no event after that one."},
        503: {},
    },
    dependencies=[Depends(Admission("realtime", "runs:follow"))],
)
async def follow_run(run_id: RunId, runs: RunsDep, last_event_id: LastEventId) -> RunStream:
    """Follow a run as Server-Sent Events, from its beginning or after the last event received.

    The last event is `end`, with `{"status": "complete" | "stopped" | "failed" | "interrupted"}`,
    and a `problem` when it failed.
    """
    return RunStream(runs, run_id, last_event_id)


@router.post(
    "/runs/{run_id}/stop",
    status_code=202,
    response_class=Response,
    responses={404: {}, 503: {}},
    dependencies=[Security(current_principal, scopes=[_START]), Depends(whole_request)],
)
async def stop_run(run_id: RunId, runs: RunsDep) -> Response:
    """Stop a run; its `end` reports when it has stopped. A run that has ended stays unchanged."""
    await runs.stop(run_id)
    return Response(status_code=202)
