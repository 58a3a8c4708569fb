"""The part, its routes `POST` and `GET /topics/{topic}/events`, and its dependencies.

`Events` publishes from any path operation:

    @router.post("/orders")
    async def create_order(order: Order, events: Events) -> Order:
        await events.publish("orders", order, event="created")
        return order

Other code, such as a lifespan, creates a `Publisher` for the application. Source:
draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from ..kernel.access import asks_for, principal_of, require
from ..kernel.admission import Admission, client_of
from ..kernel.body import RequestBody
from ..kernel.fields import joined
from ..kernel.part import Part, opened
from ..streams.codings import weights
from ..streams.content import ENCODED, require_text
from .backends import UNAVAILABLE, check_backend
from .hub import Hub, open_hub
from .limits import TOO_MANY_EVENTS, TOO_MANY_OF_CLIENT, TOO_MANY_TOPICS, TOPIC_FULL
from .messages import KEY_REUSED, MEDIA_TYPES, NAME, RESERVED, Once, message_of, parse_message
from .runs.router import router as runs_router
from .runs.runs import TOO_MANY_RUNS
from .settings import RealtimeSettings
from .streams import (
    JSON_EVENT,
    POLLED,
    SSE_EVENT,
    EventLines,
    EventStream,
    LastEventId,
    Poll,
)
from .topics import (
    PUBLISH,
    READ_ONLY,
    SELECTION,
    SUBSCRIBE,
    TOPIC,
    check_readable,
    check_writable,
    parse_topic,
    parse_topics,
)
from .websocket import router as websocket_router

router = APIRouter(prefix="/topics", tags=["realtime"])
router.include_router(websocket_router)

#: For OpenAPI only: with a body parameter FastAPI would read the body itself.
_EVENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {}},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}
_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {"schema": POLLED},
            "text/event-stream": {"itemSchema": SSE_EVENT},
            "application/jsonl": {"itemSchema": JSON_EVENT},
        }
    },
    429: {},
    503: {},
}
_REFUSALS: dict[int | str, dict[str, Any]] = {403: {}, 413: {}, 415: {}, 429: {}}

# The alias of `TopicNames`, as both operations have one path.
TopicName = Annotated[
    str,
    Path(
        alias="topics",
        description="One topic: `A-Z a-z 0-9 _ . -`, at most 128.",
        json_schema_extra={"pattern": f"^{TOPIC}$"},
    ),
]
TopicNames = Annotated[
    str,
    Path(
        description="Up to 32 topics with commas; `name.*` for all with this prefix.",
        json_schema_extra={"pattern": f"^{SELECTION}$"},
    ),
]
EventType = Annotated[
    str | None,
    Query(
        description="The event's type; some are reserved.",
        json_schema_extra={"pattern": f"^{NAME}$", "not": {"enum": sorted(RESERVED)}},
    ),
]
EventKey = Annotated[
    str | None,
    Query(
        description="With the policy `coalesce` a newer event with this key replaces this one.",
        json_schema_extra={"pattern": f"^{NAME}$"},
    ),
]
PollSeconds = Annotated[
    float | None, Query(ge=0, le=60, description="Respond once, within this number of seconds.")
]
Opening = Annotated[
    bool,
    Query(
        description="Whether Server-Sent Events begin with a block that has only an `id`, which"
        " some clients report as an empty event."
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(description="Requests with the same key publish one event.", pattern="^[!-~]{1,255}$"),
]


async def hub_of(connection: HTTPConnection) -> Hub:
    """Return the hub of the application, as a dependency."""
    hub: Hub = opened(connection.app, "hub")
    return hub


HubDep = Annotated[Hub, Depends(hub_of)]
"""The hub of the service, as a parameter of a path operation."""


class Publisher:
    """Publishes events while an application runs."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def publish(
        self, topic: str, data: object, *, event: str | None = None, key: str | None = None
    ) -> str:
        """Publish text, or anything that pydantic serializes to JSON, and return the event's id.

        `event` is its type; with the policy `coalesce` it replaces the previous event with the same
        `key`. Raises Problem 422 for a malformed topic, type or key, and 503 if the broker is
        unavailable.
        """
        hub: Hub = opened(self._app, "hub")
        return await hub.publish(parse_topic(topic), message_of(data, event, key))


async def _publisher(connection: HTTPConnection) -> Publisher:
    return Publisher(connection.app)


Events = Annotated[Publisher, Depends(_publisher)]
"""The publisher of the service, as a parameter of a path operation."""


class Published(BaseModel):
    """The id of a published event."""

    id: str
    topic: str


@router.post("/{topics}/events", status_code=202, openapi_extra=_EVENT_BODY, responses=_REFUSALS)
@asks_for(PUBLISH + "{topics}")
async def publish_event(
    topic: TopicName,
    request: Request,
    hub: HubDep,
    event: EventType = None,
    key: EventKey = None,
    idempotency_key: IdempotencyKey = None,
) -> Published:
    """Publish the body as one event: JSON (checked, sent compact) or text (unchanged)."""
    require(request, PUBLISH + parse_topic(topic))
    check_writable(topic, hub.read_only)
    hub.rate.spend(client_of(request))
    media_type = require_text(request, *MEDIA_TYPES).media_type
    body = await RequestBody(request, limit=hub.settings.max_event_size).read()
    message = parse_message(body, media_type, event, key)
    once = _once(request, topic, idempotency_key, body, media_type, event, key)
    return Published(id=await hub.publish(topic, message, once), topic=topic)


def _once(request: Request, topic: str, key: str | None, *parts: bytes | str | None) -> Once | None:
    if key is None:
        return None
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    # Without the address, which a client may have changed before it repeats a request.
    principal = principal_of(request)
    return Once(f"{principal.id if principal else ''} {topic} {key}", digest)


@router.get(
    "/{topics}/events",
    status_code=200,
    response_class=Response,
    responses=_STREAMS,
    dependencies=[Depends(Admission("realtime"))],
)
@asks_for(SUBSCRIBE + "{topics}")
async def subscribe(
    topics: TopicNames,
    request: Request,
    hub: HubDep,
    last_event_id: LastEventId,
    poll: PollSeconds = None,
    opening: Opening = True,
) -> Response:
    """Follow topics as Server-Sent Events or JSON Lines; every gap is reported (`reset`)."""
    check_readable(request, names := parse_topics(topics), hub.personal)
    if poll is not None:
        return Poll(hub, names, last_event_id, poll)
    if _wanted(request) is EventLines:
        return EventLines(hub, names, last_event_id)
    return EventStream(hub, names, last_event_id, opening=opening)


@router.head("/{topics}/events", include_in_schema=False)
@asks_for(SUBSCRIBE + "{topics}")
async def describe_stream(
    topics: TopicNames, request: Request, hub: HubDep, poll: PollSeconds = None
) -> Response:
    """Return the headers of a stream, without opening it."""
    check_readable(request, parse_topics(topics), hub.personal)
    kind = _wanted(request) if poll is None else Poll
    response = Response(headers=kind.fields, media_type=kind.media_type)
    del response.headers["Content-Length"]
    return response


def _wanted(request: Request) -> type[EventLines | EventStream]:
    accepted = weights(joined(request.headers, "accept"))
    wants_lines = accepted.get("application/jsonl", 0) > accepted.get("text/event-stream", 0)
    return EventLines if wants_lines else EventStream


class Realtime(Part):
    """Topics and runs: `/topics/…` and `/runs/…`. Settings: `APP_REALTIME__…`."""

    rank = 0  # Opened first, as callbacks of files publish events.
    routes_last = True  # Streams are opened rarely; earlier routes slow down every request.
    sections: ClassVar[dict[str, Any]] = {"realtime": RealtimeSettings}
    problem_types = (
        ENCODED,
        KEY_REUSED,
        READ_ONLY,
        UNAVAILABLE,
        TOPIC_FULL,
        TOO_MANY_TOPICS,
        TOO_MANY_OF_CLIENT,
        TOO_MANY_EVENTS,
        TOO_MANY_RUNS,
    )

    def check(self, settings: Any) -> None:
        check_backend(settings.realtime)

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)
        app.include_router(runs_router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        state = app.state
        async with open_hub(state.settings.realtime, state.kernel) as state.hub:
            yield
