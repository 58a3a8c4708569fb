"""Events that code of the service publishes."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine.realtime import Events, Message, Publisher

from ..service import Service
from .conversation import converse
from .poller import poll, position_of
from .subscriber import Subscriber


class Order(BaseModel):
    id: int
    total: float


router = APIRouter()


@router.post("/orders")
async def create_order(order: Order, events: Events, event: str = "created") -> str:
    return await events.publish("orders", order, event=event, key=f"order-{order.id}")


@router.post("/notes/{topic}")
async def add_note(topic: str, note: str, events: Events) -> str:
    return await events.publish(topic, note)


async def test_a_path_operation_publishes_what_it_returns(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("orders")
        response = await client.post("/orders", json={"id": 7, "total": 2.5})
        told = await subscriber.next("created")

    assert response.status_code == 200
    assert told["id"] == response.json()
    assert json.loads(told["data"]) == {"id": 7, "total": 2.5}


async def test_the_key_of_an_event_is_what_it_replaces(serve: Any) -> None:
    service: Service = await serve(router, realtime={"policies": "orders=coalesce"})
    before = await position_of(service, "orders")
    async with service.client() as client:
        for number in (1, 2, 1):
            await client.post("/orders", json={"id": number, "total": 1})

    events = (await poll(service, "orders", before))["events"]
    assert [event["data"]["id"] for event in events] == [2, 1]


async def test_text_is_published_as_it_is(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("notes")
        await client.post("/notes/notes", params={"note": "[not JSON"})

        assert (await subscriber.block())["data"] == "[not JSON"


@pytest.mark.parametrize(
    ("path", "query", "body", "detail"),
    [
        ("/orders", {"event": "reset"}, {"id": 1, "total": 1}, "This event type is"),
        ("/notes/a b", {"note": "x"}, None, "A topic is"),
    ],
)
async def test_names_that_are_not_valid_are_refused(
    serve: Any, path: str, query: dict[str, str], body: Any, detail: str
) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.post(path, params=query, json=body)

    assert response.status_code == 422
    assert detail in response.text


async def test_a_publisher_works_without_a_request(serve: Any) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        ids.append(await Publisher(app).publish("starts", "first"))
        yield

    ids: list[str] = []
    service: Service = await serve(APIRouter(lifespan=lifespan))
    await service.in_server(Publisher(service.app).publish("starts", Message("again", "start")))
    (event,) = (await poll(service, "starts", ids[0]))["events"]

    assert (event["event"], event["data"]) == ("start", "again")


@pytest.mark.fault("G30")
async def test_the_default_type_is_the_same_as_none(serve: Any) -> None:
    service: Service = await serve(router)
    before = await position_of(service, "news,orders")
    async with service.client() as client, converse(service, "news") as other:
        url = "/topics/news/events?event=message"
        await client.post(url, content="1", headers={"Content-Type": "text/plain"})
        await other.ask("publish", topic="news", data=2, event="message")
        await client.post("/orders?event=message", json={"id": 3, "total": 1})
    await service.in_server(Publisher(service.app).publish("news", Message("4", "message")))

    events = (await poll(service, "news,orders", before))["events"]
    assert [event["event"] for event in events] == [None] * 4


@pytest.mark.parametrize("event", [pytest.param("open", marks=pytest.mark.fault("G30")), "error"])
async def test_the_events_that_a_browser_fires_itself_cannot_be_published(
    serve: Any, event: str
) -> None:
    service: Service = await serve(router)
    async with service.client() as client, converse(service, "news") as other:
        url = f"/topics/news/events?event={event}"
        posted = await client.post(url, content="1", headers={"Content-Type": "text/plain"})
        ordered = await client.post(f"/orders?event={event}", json={"id": 3, "total": 1})
        told = await other.ask("publish", topic="news", data=2, event=event)

    assert (posted.status_code, ordered.status_code, told["problem"]["status"]) == (422, 422, 422)
