"""Credentials of clients that cannot send headers: `EventSource`, and WebSockets of browsers."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from ...service import Service
from ..conversation import converse, refusal
from ..subscriber import Subscriber
from .senders import bearer, key_of

TOPIC = "orders"
PATH = f"/topics/{TOPIC}/events"
SCOPES = ("topics:subscribe:*", "topics:publish:*")


@pytest.fixture
def key(service: Service) -> str:
    return key_of(service, "alice", *SCOPES)


@pytest.fixture
async def holder(service: Service, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends the key."""
    async with service.client() as client:
        client.headers.update(bearer(key))
        yield client


async def ticket_for(holder: httpx.AsyncClient, path: str) -> str:
    ticket: str = (await holder.post("/tickets", json={"path": path})).json()["ticket"]
    return ticket


async def test_an_event_source_resumes_with_another_ticket(
    service: Service, holder: httpx.AsyncClient
) -> None:
    async with service.raw_connection() as peer, service.raw_connection() as again:
        subscriber = Subscriber(peer)
        await subscriber.open(TOPIC, query=f"?ticket={await ticket_for(holder, PATH)}")
        await holder.post(PATH, json=1)
        first = await subscriber.block()
        peer.reset()
        await holder.post(PATH, json=2)
        resumed = Subscriber(again)
        query = f"?ticket={await ticket_for(holder, PATH)}"
        await resumed.open(TOPIC, f"Last-Event-ID: {first['id']}", query=query)
        second = await resumed.block()

    assert (first["data"], second["data"]) == ("1", "2")


async def test_a_ticket_and_a_position_in_one_query(
    service: Service, holder: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    known = (await holder.post(PATH, json=1)).json()["id"]
    await holder.post(PATH, json=2)
    ticket = await ticket_for(holder, PATH)
    response = await client.get(f"{PATH}?last_event_id={known}&ticket={ticket}&poll=0")

    assert [event["data"] for event in response.json()["events"]] == [2]


async def test_a_ticket_opens_a_websocket_once(service: Service, holder: httpx.AsyncClient) -> None:
    query = f"?ticket={await ticket_for(holder, f'/topics/{TOPIC}/ws')}"
    async with converse(service, TOPIC, query) as conversation:
        ack = await conversation.ask("publish", topic=TOPIC, data=1)
    with pytest.raises(InvalidStatus) as refused:
        async with converse(service, TOPIC, query):
            pass

    assert ack["type"] == "ack"
    assert refused.value.response.status_code == 401


async def test_a_ticket_of_another_topic_opens_nothing(
    service: Service, holder: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    ticket = await ticket_for(holder, "/topics/prices/events")

    assert (await client.get(f"{PATH}?poll=0&ticket={ticket}")).status_code == 401


async def test_the_owner_of_a_ticket_needs_the_scope(
    service: Service, client: httpx.AsyncClient
) -> None:
    async with service.client() as holder:
        holder.headers.update(bearer(key_of(service, "bob", "topics:subscribe:prices")))
        ticket = await ticket_for(holder, PATH)

    assert (await client.get(f"{PATH}?poll=0&ticket={ticket}")).status_code == 403


async def test_a_websocket_has_its_key_among_the_subprotocols(service: Service, key: str) -> None:
    protocols = [Subprotocol("bearer"), Subprotocol(key)]
    async with converse(service, TOPIC, subprotocols=protocols) as conversation:
        assert conversation.socket.subprotocol == "bearer"
        assert (await conversation.ask("publish", topic=TOPIC, data=1))["type"] == "ack"


@pytest.mark.parametrize("names", [("bearer",), ("bearer", "sk_wrong"), ("chat",)])
async def test_subprotocols_without_a_key_are_refused(
    service: Service, names: tuple[str, ...]
) -> None:
    protocols = [Subprotocol(name) for name in names]
    response, _ = await refusal(service, TOPIC, subprotocols=protocols)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("offered", "seen", "selected"),
    [
        (["bearer", "KEY"], [], "bearer"),
        (["bearer", "KEY", "chat"], ["chat"], "chat"),
        (["v2", "chat", "bearer", "KEY"], ["v2", "chat"], "chat"),
        (["v2", "bearer", "KEY"], ["v2"], "bearer"),
    ],
)
async def test_a_route_of_the_owner_selects_among_the_other_subprotocols(
    service: Service, key: str, offered: list[str], seen: list[str], selected: str
) -> None:
    @service.app.websocket("/chat")
    async def chat(websocket: WebSocket) -> None:
        others: list[str] = websocket.scope["subprotocols"]
        await websocket.accept("chat" if "chat" in others else None)
        await websocket.send_json([*others, websocket.state.principal.id])
        await websocket.close()

    options: dict[str, Any] = {
        "subprotocols": [Subprotocol(key if each == "KEY" else each) for each in offered]
    }
    url = f"ws://127.0.0.1:{service.port}/chat"
    async with connect(url, proxy=None, **options) as socket:
        told = await socket.recv()

    assert told == str([*seen, "alice"]).replace("'", '"').replace(", ", ",")
    assert socket.subprotocol == selected
