"""`POST` and `GET /topics/{topic}/events`: publish and subscribe."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BaseModel

from ..streaming import Admission, RequestBody
from .event_stream import EventStream
from .hub import Hub
from .messages import parse_message

router = APIRouter(prefix="/topics", tags=["realtime"])

TopicName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.\-]{1,128}$")]

#: For OpenAPI: a body parameter would make FastAPI read the body before we can.
_EVENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {}}, "text/plain": {"schema": {}}},
    }
}


class Published(BaseModel):
    """The id under which an event was published."""

    id: str
    topic: str


async def hub_of(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


HubDep = Annotated[Hub, Depends(hub_of)]


@router.post("/{topic}/events", status_code=202, openapi_extra=_EVENT_BODY)
async def publish_event(
    topic: TopicName,
    request: Request,
    hub: HubDep,
    event: Annotated[str | None, Query(description="The event's type.")] = None,
) -> Published:
    """Publish the body as one event: JSON (checked, sent compact) or text (as it is)."""
    body = await RequestBody(request, limit=hub.settings.max_event_size).read()
    message = parse_message(body, request.headers.get("content-type", ""), event)
    return Published(id=await hub.publish(topic, message), topic=topic)


@router.get(
    "/{topics}/events",
    status_code=200,
    response_class=EventStream,
    dependencies=[Depends(Admission("realtime"))],
)
async def subscribe(
    topics: TopicName,
    hub: HubDep,
    last_event_id: Annotated[str | None, Header(description="Resume behind this event.")] = None,
    last_event_id_query: Annotated[
        str | None, Query(alias="last_event_id", description="For clients without headers.")
    ] = None,
) -> EventStream:
    """Follow a topic as Server-Sent Events; a gap is always told (`event: reset`)."""
    position = last_event_id if last_event_id is not None else last_event_id_query
    return EventStream(hub, topics, position or None)
