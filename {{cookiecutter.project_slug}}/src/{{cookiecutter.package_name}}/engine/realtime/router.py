"""`POST` and `GET /topics/{topic}/events`, and the dependencies of path operations.

`Events` publishes from any path operation:

    @router.post("/orders")
    async def create_order(order: Order, events: Events) -> Order:
        await events.publish("orders", order, event="created")
        return order

Other code, such as a lifespan, makes a `Publisher` of the application.
Source: draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from ..kernel.admission import Admission
from ..kernel.body import RequestBody
from ..kernel.fields import joined
from ..kernel.part import opened
from ..kernel.principal import client_of
from ..kernel.problem import INVALID, Problem
from ..streams.codings import weights
from ..streams.content import require_text
from .hub import Hub
from .messages import MEDIA_TYPES, NAME, RESERVED, Once, message_of, parse_message
from .streams import HEADERS, EventLines, EventStream, Poll
from .topics import SELECTION, TOPIC, offered_position, parse_topic, parse_topics
from .websocket import router as websocket_router

router = APIRouter(prefix="/topics", tags=["realtime"])
router.include_router(websocket_router)

_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_ID = {"type": "string", "pattern": "^[0-9a-z]+-[0-9]+$"}

SSE_EVENT: dict[str, Any] = {
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
    "type": "object",
    "properties": {
        "events": {"type": "array", "items": JSON_EVENT},
        "last_event_id": _ID,
        "error": {"type": "object", "description": "The problem that ended the wait."},
    },
    "anyOf": [{"required": ["events", "last_event_id"]}, {"required": ["error"]}],
}
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
            "text/event-stream": {"itemSchema": SSE_EVENT},
            "application/jsonl": {"itemSchema": JSON_EVENT},
            "application/json": {"schema": POLLED},
        }
    },
    429: {},
    503: {},
}
_REFUSALS: dict[int | str, dict[str, Any]] = {413: {}, 415: {}, 429: {}}

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
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Requests with the same key publish one event.",
        json_schema_extra={"pattern": f"^{_KEY.pattern}$"},
    ),
]


async def hub_of(connection: HTTPConnection) -> Hub:
    """Return the hub of the application, as a dependency."""
    hub: Hub = opened(connection.app, "hub")
    return hub


HubDep = Annotated[Hub, Depends(hub_of)]
"""The hub of the service, as a parameter of a path operation."""


async def last_event(
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
    last_event_id_query: Annotated[
        str | None, Query(alias="last_event_id", description="For clients without headers.")
    ] = None,
) -> str | None:
    """Return the position to resume from; the header, which browsers keep current, wins."""
    return offered_position(last_event_id, last_event_id_query)


LastEventId = Annotated[str | None, Depends(last_event)]


class Publisher:
    """Publishes events while an application runs."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def publish(
        self, topic: str, data: object, *, event: str | None = None, key: str | None = None
    ) -> str:
        """Publish text, or anything that pydantic serializes to JSON, and return the event's id.

        `event` is its type; with the policy `coalesce` it replaces the previous event with the same
        `key`. Raises Problem 422 for a malformed topic, type or key, and 503 if the broker does not
        answer.
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
async def publish_event(
    topic: TopicName,
    request: Request,
    hub: HubDep,
    event: EventType = None,
    key: EventKey = None,
    idempotency_key: IdempotencyKey = None,
) -> Published:
    """Publish the body as one event: JSON (checked, sent compact) or text (unchanged)."""
    parse_topic(topic)
    hub.rate.spend(client_of(request))
    media_type = require_text(request, *MEDIA_TYPES).media_type
    body = await RequestBody(request, limit=hub.settings.max_event_size).read()
    message = parse_message(body, media_type, event, key)
    once = _once(request, idempotency_key, body, media_type, event, key)
    return Published(id=await hub.publish(topic, message, once), topic=topic)


def _once(request: Request, key: str | None, *parts: bytes | str | None) -> Once | None:
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Problem(422, "An Idempotency-Key is 1 to 255 visible characters.", type=INVALID)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return Once(f"{client_of(request)} {request.url.path} {key}", digest)


@router.get(
    "/{topics}/events",
    status_code=200,
    response_class=Response,
    responses=_STREAMS,
    dependencies=[Depends(Admission("realtime"))],
)
async def subscribe(
    topics: TopicNames,
    request: Request,
    hub: HubDep,
    last_event_id: LastEventId,
    poll: Annotated[
        float | None, Query(ge=0, le=60, description="Respond once, within so many seconds.")
    ] = None,
) -> Response:
    """Follow topics as Server-Sent Events or JSON Lines; every gap is reported (`reset`)."""
    names = parse_topics(topics)
    if poll is not None:
        return Poll(hub, names, last_event_id, poll)
    return _wanted(request)(hub, names, last_event_id)


@router.head("/{topics}/events", include_in_schema=False)
async def describe_stream(topics: TopicNames, request: Request) -> Response:
    """Return the headers of a stream, without opening it."""
    parse_topics(topics)
    response = Response(headers=HEADERS, media_type=_wanted(request).media_type)
    del response.headers["Content-Length"]
    return response


def _wanted(request: Request) -> type[EventLines | EventStream]:
    accepted = weights(joined(request.headers, "accept"))
    wants_lines = accepted.get("application/jsonl", 0) > accepted.get("text/event-stream", 0)
    return EventLines if wants_lines else EventStream
