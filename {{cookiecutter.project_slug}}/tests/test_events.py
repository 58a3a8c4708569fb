"""Tests of events, which clients and routes publish."""

import json

import httpx

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.realtime import Events
from {{cookiecutter.package_name}}.engine.testing import LiveServer
from {{cookiecutter.package_name}}.settings import Settings


async def first_event(stream: httpx.Response) -> object:
    """Return the data of the first event that has a JSON object as data."""
    async for line in stream.aiter_lines():
        if line.startswith("data: {"):
            return json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended")


async def test_a_subscriber_gets_what_a_client_publishes(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/topics/orders/events") as stream:
        await client.post("/topics/orders/events", json={"id": 7}, params={"event": "created"})

        assert await first_event(stream) == {"id": 7}


async def test_a_subscriber_gets_what_a_route_publishes(settings: Settings) -> None:
    app = create_app(settings)

    @app.post("/orders/{order_id}/ship")
    async def ship(order_id: int, events: Events) -> None:
        await events.publish("orders", {"id": order_id}, event="shipped")

    async with (
        LiveServer(app) as service,
        service.client() as client,
        client.stream("GET", "/topics/orders/events") as stream,
    ):
        await client.post("/orders/7/ship")

        assert await first_event(stream) == {"id": 7}
