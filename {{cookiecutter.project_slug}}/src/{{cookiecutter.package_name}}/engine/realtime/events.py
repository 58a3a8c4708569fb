"""Publishing from code of the service: `Events` is a dependency of path operations.

    @router.post("/orders")
    async def create_order(order: Order, events: Events) -> Order:
        await events.publish("orders", order, event="created")
        return order

Other code, such as a lifespan, makes a `Publisher` of the application.
"""

from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from ..kernel.part import opened
from .hub import Hub
from .messages import message_of
from .topics import parse_topic


class Publisher:
    """Publishes events while an application runs."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def publish(
        self, topic: str, data: object, *, event: str | None = None, key: str | None = None
    ) -> str:
        """Publish text, or anything that pydantic makes JSON of, and return the id of the event.

        `event` is its type; `key` names what it is the newest state of. Raises Problem 422 for a
        malformed topic, type or key, and 503 when the broker does not answer.
        """
        hub: Hub = opened(self._app, "hub")
        return await hub.publish(parse_topic(topic), message_of(data, event, key))


async def _publisher(connection: HTTPConnection) -> Publisher:
    return Publisher(connection.app)


#: A `Publisher`, as a dependency of path operations.
Events = Annotated[Publisher, Depends(_publisher)]
"""The publisher of the service, as a parameter of a path operation."""
