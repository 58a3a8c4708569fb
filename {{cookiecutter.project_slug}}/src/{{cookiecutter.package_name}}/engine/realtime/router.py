"""`POST` and `GET /topics/{topic}/events`: publish and subscribe."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from ..kernel.admission import Admission
from ..kernel.body import RequestBody
from ..kernel.fields import joined
from ..kernel.part import opened
from ..kernel.principal import client_of
from ..streams.codings import weights
from ..streams.content import require_text
from .hub import Hub
from .messages import MEDIA_TYPES, NAME, RESERVED, parse_message
from .polling import Poll
from .publishing import IdempotencyKey, once
from .streams import HEADERS, EventLines, EventStream
from .topics import SELECTION, TOPIC, offered_position, parse_topic, parse_topics
from .websocket import router as websocket_router

router = APIRouter(prefix="/topics", tags=["realtime"])
router.include_router(websocket_router)

_ID = {"type": "string", "pattern": "^[0-9a-z]+-[0-9]+$"}

SSE_EVENT: dict[str, Any] = {
    "title": "ServerSentEvent",
    "type": "object",
    "properties": {
        "id": _ID,
        "event": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
    "required": ["data"],
}
#: What the service itself tells (`reset`, `reconnect`, `error`) may be of no topic.
JSON_EVENT: dict[str, Any] = {
    "title": "TopicEvent",
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
    "anyOf": [
        {
            "title": "PolledEvents",
            "type": "object",
            "properties": {
                "events": {"type": "array", "items": JSON_EVENT},
                "last_event_id": _ID,
            },
            "required": ["events", "last_event_id"],
        },
        {
            "title": "PollFailure",
            "type": "object",
            "properties": {"error": {"type": "object", "description": "Why the waiting ended."}},
            "required": ["error"],
        },
    ]
}
#: For OpenAPI: a body parameter would make FastAPI read the body before we can.
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
_REFUSALS: dict[int | str, dict[str, Any]] = {413: {}, 415: {}, 429: {}}

# One name for both, as it is one path.
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
        description="Up to 32 topics with commas; `name.*` for all that start so.",
        json_schema_extra={"pattern": f"^{SELECTION}$"},
    ),
]
EventType = Annotated[
    str | None,
    Query(
        description="The event's type; some are the service's own.",
        json_schema_extra={"pattern": f"^{NAME}$", "not": {"enum": sorted(RESERVED)}},
    ),
]
EventKey = Annotated[
    str | None,
    Query(description="What a newer event replaces.", json_schema_extra={"pattern": f"^{NAME}$"}),
]


class Published(BaseModel):
    """The id under which an event was published."""

    id: str
    topic: str


async def hub_of(connection: HTTPConnection) -> Hub:
    """Return the hub of the application, as a dependency."""
    hub: Hub = opened(connection.app, "hub")
    return hub


HubDep = Annotated[Hub, Depends(hub_of)]
"""The hub of the service, as a parameter of a path operation."""


async def last_event(
    last_event_id: Annotated[str | None, Header(description="Resume behind this event.")] = None,
    last_event_id_query: Annotated[
        str | None, Query(alias="last_event_id", description="For clients without headers.")
    ] = None,
) -> str | None:
    """Return the position that a client comes back with: a header, which its program kept, wins."""
    return offered_position(last_event_id, last_event_id_query)


LastEventId = Annotated[str | None, Depends(last_event)]


@router.post("/{topics}/events", status_code=202, openapi_extra=_EVENT_BODY, responses=_REFUSALS)
async def publish_event(
    topic: TopicName,
    request: Request,
    hub: HubDep,
    event: EventType = None,
    key: EventKey = None,
    idempotency_key: IdempotencyKey = None,
) -> Published:
    """Publish the body as one event: JSON (checked, sent compact) or text (as it is)."""
    parse_topic(topic)
    hub.rate.spend(client_of(request))
    media_type = require_text(request, *MEDIA_TYPES).media_type
    body = await RequestBody(request, limit=hub.settings.max_event_size).read()
    message = parse_message(body, media_type, event, key)
    first = once(request, idempotency_key, body, media_type, event, key)
    return Published(id=await hub.publish(topic, message, first), topic=topic)


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
        float | None, Query(ge=0, le=60, description="Wait so many seconds for one answer.")
    ] = None,
) -> Response:
    """Follow topics as Server-Sent Events, or as JSON Lines; a gap is always told (`reset`)."""
    names = parse_topics(topics)
    if poll is not None:
        return Poll(hub, names, last_event_id, poll)
    return _wanted(request)(hub, names, last_event_id)


@router.head("/{topics}/events", include_in_schema=False)
async def describe_stream(topics: TopicNames, request: Request) -> Response:
    """Tell what a stream would begin with; it would never end."""
    parse_topics(topics)
    response = Response(headers=HEADERS, media_type=_wanted(request).media_type)
    del response.headers["Content-Length"]
    return response


def _wanted(request: Request) -> type[EventLines | EventStream]:
    accepted = weights(joined(request.headers, "accept"))
    wants_lines = accepted.get("application/jsonl", 0) > accepted.get("text/event-stream", 0)
    return EventLines if wants_lines else EventStream
