"""Runs: jobs that go on when the client has left, and are followed as an event stream."""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..kernel.admission import Admission
from ..kernel.body import RequestBody, whole_request
from ..kernel.exchange import Exchange
from ..kernel.measures import Measure
from ..kernel.origins import base_of
from ..kernel.outcomes import Outcome
from ..kernel.part import opened
from ..kernel.problem import Problem
from ..streams.content import require_text
from .messages import JSON
from .router import SSE_EVENT, LastEventId
from .runs import EVENTS, Runs, has_ended, open_runs, tell_gap
from .streams import EventStream, EventStreamChannel
from .subscription import Subscription

T = TypeVar("T")
Run = TypeVar("Run", bound=Callable[..., AsyncGenerator[Any]])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with open_runs(app.state.hub) as runs:
        app.state.runs = runs
        running = Measure("realtime_runs", "Runs under way.", "sum", runs.count)
        app.state.kernel.measures.append(running)
        yield


router = APIRouter(tags=["runs"], lifespan=_lifespan)

_ADMISSION = Depends(Admission("realtime"))
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


async def runs_of(request: Request) -> Runs:
    """Return the runs of the application, as a dependency."""
    runs: Runs = opened(request.app, "runs")
    return runs


RunsDep = Annotated[Runs, Depends(runs_of)]
"""The runs of the service, as a parameter of a path operation: `start`, `follow`, `stop`."""
RunId = Annotated[str, Path(description="From the answer that the run was started with.")]


class Started(BaseModel):
    """A run, and where its events are."""

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
    """A follower of a run, whose response ends behind the last event."""

    __slots__ = ()

    def greeting(self, subscription: Subscription) -> bytes:
        # No event of its own, which would have an id and no data: those who come without a position
        # begin at the beginning anyway, and some clients of runs parse the data of every event.
        return f"retry: {subscription.hub.settings.retry * 1000:.0f}\n".encode()

    def take(self) -> bytes:
        subscription = self.subscription
        if subscription.position < subscription.ring.floor:
            tell_gap(subscription)
        body = super().take()
        if not body and has_ended(subscription.ring):
            self.finish(b"", Outcome.COMPLETE)
        return body


class RunStream(EventStream):
    """Send the events of a run as Server-Sent Events, from behind the last one that was seen.

    Without `last_event_id` from its beginning. Raises Problem 204 when there is nothing to follow.
    """

    channel = RunChannel

    def __init__(self, runs: Runs, run_id: str, last_event_id: str | None = None) -> None:
        super().__init__(runs.hub, (EVENTS + run_id,), last_event_id)
        self._runs = runs
        self._run_id = run_id

    async def open(self, exchange: Exchange) -> RunChannel:
        """Raises Problem 204 when nothing is there."""
        subscription = await self._runs.follow(self._run_id, self._last_event_id)
        if subscription is None:
            raise Problem(204)
        return RunChannel(exchange, subscription)


class RunRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of events."""

    def run(self, path: str, **options: Any) -> Callable[[Run], Run]:
        """Register a generator, `async def …(…) -> AsyncGenerator[…]`, for POST.

        Its parameters become the members of the JSON body that starts it, its docstring the
        documentation; what it yields (text, a `Message`, or anything that pydantic makes JSON of)
        are the events. When it is stopped it is closed: open what it needs with `async with` or
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
                "responses": {status: _STARTED, 413: {}, 415: {}, 422: {}, 503: {}},
                "openapi_extra": {"requestBody": body},
            }
            dependencies = [_ADMISSION, *options.pop("dependencies", ())]

            @self.post(path, dependencies=dependencies, **(usual | options))
            async def start(request: Request, response: Response, runs: RunsDep) -> Started:
                # A function's adapter calls it with what it has read.
                run_id = await runs.start(await read_json(request, adapter))
                events = f"{base_of(request.scope)}/runs/{run_id}/events"
                response.headers["Location"] = events
                return Started(id=run_id, name=path.strip("/"), events=events)

            return function

        return register


async def read_json(request: Request, adapter: TypeAdapter[T]) -> T:
    """Return what a pydantic adapter makes of a JSON body, which is `{}` when there is none.

    Raises Problem 413 above `APP_REALTIME__MAX_EVENT_SIZE`, 415 for other media types, 408 for a
    stalled body, and RequestValidationError (422).
    """
    limit = request.app.state.settings.realtime.max_event_size
    body = await RequestBody(request, limit=limit).read()
    if body:
        require_text(request, JSON)
    try:
        # A function's adapter would take a list, too, as arguments without names.
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
        204: {"description": "There is no such run (any more), or nothing behind that event."},
        503: {},
    },
    dependencies=[_ADMISSION],
)
async def follow_run(run_id: RunId, runs: RunsDep, last_event_id: LastEventId) -> RunStream:
    """Follow a run as Server-Sent Events, from its beginning or from behind the last event seen.

    The last event is `end`, with `{"status": "complete" | "stopped" | "failed" | "interrupted"}`,
    and a `problem` when it failed.
    """
    return RunStream(runs, run_id, last_event_id)


@router.post(
    "/runs/{run_id}/stop",
    status_code=202,
    response_class=Response,
    responses={404: {}, 503: {}},
    dependencies=[Depends(whole_request)],
)
async def stop_run(run_id: RunId, runs: RunsDep) -> Response:
    """Stop a run; it has stopped when its `end` says so. One that has ended stays as it is."""
    await runs.stop(run_id)
    return Response(status_code=202)
