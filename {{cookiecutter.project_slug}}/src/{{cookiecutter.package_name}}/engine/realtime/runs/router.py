"""The routes of runs, and the router with which owners register theirs."""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response, Security
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, TypeAdapter

from ...kernel.access import current_principal, owner_seen_by
from ...kernel.admission import Admission, client_of
from ...kernel.body import RequestBody, whole_request
from ...kernel.fields import joined
from ...kernel.kernel import Measure
from ...kernel.origins import base_of
from ...kernel.part import opened
from ...kernel.problem import Problem
from ...kernel.threads import repeating
from ...streams.codings import weights
from ...streams.content import require_text
from ..hub import Hub
from ..messages import JSON, NAME
from ..streams import SSE_EVENT, LastEventId
from .definition import Compact, Definition, define, validated
from .others import ALIVE_SECONDS
from .readers import EventStreamReader, JsonLinesReader, Reader, TextReader
from .responses import RunStream
from .runs import Runs, owned

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., AsyncGenerator[Any]])

READERS: tuple[type[Reader], ...] = (EventStreamReader, JsonLinesReader, TextReader)
_START, _FOLLOW = "runs:start", "runs:follow"
#: The attribute of a path operation that starts a run.
_STARTS = "starts_run"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    hub: Hub = app.state.hub
    found = (getattr(each.endpoint, _STARTS, None) for each in iter_route_contexts(app.routes))
    definitions = {each.id: each for each in found if each is not None}
    runs = app.state.runs = Runs(hub, app.state.kernel.challenge is not None, definitions)
    measure = Measure("realtime_runs", "Active runs.", "sum", runs.count)
    app.state.kernel.measures.append(measure)
    shared = hub.settings.broker_url != "memory:"
    async with repeating(ALIVE_SECONDS, runs.tend) if shared else nullcontext():
        try:
            yield
        finally:
            await runs.close()


router = APIRouter(tags=["runs"], lifespan=_lifespan)


async def runs_of(request: Request) -> Runs:
    """Return the runs of the application, as a dependency."""
    runs: Runs = opened(request.app, "runs")
    return runs


RunsDep = Annotated[Runs, Depends(runs_of)]
"""The runs of the service, as a parameter of a path operation: `attach`, `active`, `stop`, …"""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Requests with the same key have one effect.",
        pattern="^[!-~]{1,255}$",
    ),
]
"""The `Idempotency-Key` of a request, as a parameter of a path operation."""

_Key = Query(description="What the run is about, such as a conversation.", max_length=255)
Key = Annotated[str | None, _Key]


async def _visible(
    request: Request,
    run_id: Annotated[str, Path(description="The `id` of the response that started the run.")],
) -> str:
    """Return the id of a run; raises Problem 404 for a run of another owner."""
    owner = owner_seen_by(request)
    if owner is not None and run_id != owned(run_id[:32], owner):
        raise Problem(404, "There is no such run.")
    return run_id


RunId = Annotated[str, Depends(_visible)]


class Started(BaseModel):
    """A run, and the address of its events."""

    id: str
    name: str
    events: str


def _started(request: Request, run_id: str, name: str) -> Started:
    return Started(id=run_id, name=name, events=f"{base_of(request.scope)}/runs/{run_id}/events")


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
_ATTACHED = {**_STARTED, "model": Started, "description": "The run was started before."}


class RunRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of events."""

    def run(
        self,
        path: str,
        *,
        compact: Compact | None = None,
        resume: Callable[..., AsyncGenerator[Any]] | None = None,
        **options: Any,
    ) -> Callable[[Function], Function]:
        """Register a generator, `async def …(…) -> AsyncGenerator[…]`, for POST and PUT.

        Its parameters become the members of the JSON body that starts it, its docstring the
        documentation; its items (text, a `Message`, or anything that pydantic serializes to JSON)
        are the events. Stopping the run closes the generator: open resources with `async with` or
        `try … finally`. `options` are those of `APIRouter.post`.

        `compact` returns fewer messages that mean the same as a list of consecutive ones, for
        clients that join late. `resume` is a generator function that continues a run whose process
        is gone: its parameters are the list of messages so far, and those of the run.
        """

        def register(function: Function) -> Function:
            name = path.strip("/").removeprefix("runs/")
            definition = Definition(name, function, compact, resume)
            define(definition)
            self._add(path, definition, options)
            return function

        return register

    def _add(self, path: str, definition: Definition, options: dict[str, Any]) -> None:
        function, status = definition.function, options.get("status_code", 201)
        schema = definition.adapter.json_schema()
        content = {"application/json": {"schema": schema}}
        body = {"content": content, "required": bool(schema.get("required"))}
        refusals: dict[int, Any] = {413: {}, 415: {}, 422: {}, 429: {}, 503: {}}
        usual: dict[str, Any] = {
            "name": f"run_{function.__name__}",
            "status_code": status,
            "description": inspect.getdoc(function),
            "responses": {status: _STARTED, 200: _ATTACHED, **refusals},
            "openapi_extra": {"requestBody": body},
        }
        admission = Depends(Admission("realtime", _START))
        dependencies = [admission, *options.get("dependencies", ())]
        combined = usual | options | {"dependencies": dependencies}

        async def begin(
            request: Request, response: Response, runs: Runs, once: str | None, key: str | None
        ) -> Started:
            body = await _json_body(request)
            run = await runs.attach(function, body, client_of(request), once=once, key=key)
            started = _started(request, run.id, definition.name)
            response.headers["Location"] = started.events
            if not run.is_new:
                response.status_code = 200
            return started

        @self.post(path, **combined)
        async def start(
            request: Request, response: Response, runs: RunsDep, once: IdempotencyKey = None,
            key: Key = None,
        ) -> Started:  # fmt: skip
            return await begin(request, response, runs, once, key)

        @self.put(path + "/{id}", **(combined | {"name": f"put_{function.__name__}"}))
        async def put(
            request: Request, response: Response, runs: RunsDep, run: PutId, key: Key = None
        ) -> Started:
            return await begin(request, response, runs, run, key)

        setattr(start, _STARTS, definition)


PutId = Annotated[
    str,
    Path(
        alias="id",
        description="The client's own id of the run, as unique as an `Idempotency-Key`.",
        pattern=f"^{NAME}$",
    ),
]


async def _json_body(request: Request) -> bytes:
    limit = request.app.state.settings.realtime.max_run_size
    body = await RequestBody(request, limit=limit).read()
    if body:
        require_text(request, JSON)
    return body


async def read_json(request: Request, adapter: TypeAdapter[T]) -> T:
    """Return the JSON body as validated by a pydantic adapter; an empty body counts as `{}`.

    Raises Problem 413 above `APP_REALTIME__MAX_RUN_SIZE`, 415 for other media types, 408 for a
    stalled body, and RequestValidationError (422).
    """
    return validated(adapter, await _json_body(request))


@router.get(
    "/runs",
    status_code=200,
    responses={204: {"description": "There is no such run, or it has ended."}, 503: {}},
    dependencies=[Security(current_principal, scopes=[_FOLLOW])],
    response_model=Started,
)
async def find_run(
    request: Request, runs: RunsDep, key: Annotated[str, _Key]
) -> Started | Response:
    """Find the active run that was started with this key by the same principal."""
    found = await runs.find(client_of(request), key)
    return _started(request, *found) if found else Response(status_code=204)


@router.get(
    "/runs/{run_id}/events",
    status_code=200,
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/event-stream": {"itemSchema": SSE_EVENT},
                "application/jsonl": {"itemSchema": {"type": "object"}},
                "text/plain": {"schema": {"type": "string"}},
            }
        },
        204: {"description": "There is no such run (any more), or no event after that one."},
        503: {},
    },
    dependencies=[Depends(Admission("realtime", _FOLLOW))],
)
async def follow_run(
    request: Request, run_id: RunId, runs: RunsDep, last_event_id: LastEventId
) -> RunStream:
    """Follow a run, from its beginning or after the last event received.

    As Server-Sent Events, or as JSON Lines or plain text if `Accept` prefers that. The last event
    is `end`, with `{"status": "complete" | "stopped" | "failed" | "interrupted"}`, and a `problem`
    when it failed.
    """
    accepted = weights(joined(request.headers, "accept"))
    best = max(READERS, key=lambda reader: accepted.get(reader.media_type, 0))
    return RunStream(runs, run_id, last_event_id, best())


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
