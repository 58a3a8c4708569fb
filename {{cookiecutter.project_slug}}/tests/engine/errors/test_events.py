"""Failed event streams end with the problem, in the same form as all other errors."""

import json
from typing import Any

from fastapi import APIRouter

from {{cookiecutter.package_name}}.engine.kernel.exchange import Exchange
from {{cookiecutter.package_name}}.engine.streams.push import Channel, PushResponse

from .test_rows import failure

router = APIRouter()


class Events(Channel):
    """A stream of events, whose second one cannot be made."""

    __slots__ = ("_sent",)

    heartbeat = b":\n"

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange, 60)
        self._sent = False

    def take(self) -> bytes:
        if self._sent:
            raise ValueError("secret=abc")
        self._sent = True
        return b"data: 1\n\n"

    def close(self) -> None:
        pass

    def farewell(self, retry_after: float) -> bytes:
        return b""

    def failure(self, document: dict[str, Any]) -> bytes:
        return b"event: error\ndata: " + json.dumps(document).encode() + b"\n\n"


class EventResponse(PushResponse):
    media_type = "text/event-stream"

    async def open(self, exchange: Exchange) -> Channel:
        return Events(exchange)


@router.get("/events", response_class=EventResponse)
async def events() -> EventResponse:
    return EventResponse()


async def test_events_that_fail_end_with_the_problem(serve: Any) -> None:
    before, document = await failure(await serve(router), "/events", "event: error\ndata: ")

    assert before == "data: 1\n\n"
    assert (document["type"], document["status"]) == ("about:blank", 500)
    assert document["detail"] == "Internal Server Error"
