"""Scopes of topics: publishing and subscribing, over HTTP and on a WebSocket."""

from collections.abc import Callable
from typing import Any

import pytest

from ...service import Service
from ..conversation import converse, refusal
from .senders import GOOD, LOBBY, bearer, command, following, key_of

FOLLOW = "topics:subscribe:"
PUBLISH = "topics:publish:"


@pytest.mark.parametrize(
    ("grant", "names"),
    [
        (f"{FOLLOW}orders", "orders"),
        (f"{FOLLOW}orders.*", "orders.eu"),
        (f"{FOLLOW}orders.*", "orders.*"),
        (f"{FOLLOW}orders.*", "orders.eu.*,orders.us"),
        (f"{FOLLOW}*", "orders.*,prices"),
        ("admin", "orders.*"),
    ],
)
async def test_a_scope_opens_its_topics(service: Service, grant: str, names: str) -> None:
    assert await following(service, names, key_of(service, "alice", grant)) == GOOD


@pytest.mark.parametrize(
    ("grant", "names"),
    [
        (f"{FOLLOW}orders", "orders.eu"),
        (f"{FOLLOW}orders", "orders.*"),
        (f"{FOLLOW}orders.eu", "orders.*"),
        (f"{FOLLOW}orders.eu.*", "orders.*"),
        (f"{FOLLOW}orders.*", "orders"),
        (f"{FOLLOW}orders", "orders,prices"),
        (f"{FOLLOW}orders", "a,b,orders"),
        (f"{PUBLISH}*", "orders"),
        ("runs:follow", "orders"),
    ],
)
async def test_it_opens_no_others(service: Service, grant: str, names: str) -> None:
    assert await following(service, names, key_of(service, "alice", grant)) == {403}


async def test_anonymous_clients_follow_nothing(service: Service) -> None:
    response, _ = await refusal(service, "orders")

    assert await following(service, "orders", None) == {401}
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert response.status_code == 401


async def test_a_refused_subscription_names_the_scope(service: Service) -> None:
    key = key_of(service, "alice", f"{FOLLOW}orders")
    response, _ = await refusal(service, "orders,prices", additional_headers=bearer(key))
    async with converse(service, LOBBY, additional_headers=bearer(key)) as conversation:
        error = await conversation.ask("subscribe", topics=["orders", "prices"], ref=1)
        granted = await conversation.ask("subscribe", topics=["orders"], ref=2)

    assert response.status_code == error["problem"]["status"] == 403
    assert error["problem"]["scope"] == f"{FOLLOW}prices"
    challenge = response.headers["WWW-Authenticate"]
    assert f'error="insufficient_scope", scope="{FOLLOW}prices"' in challenge
    assert (error["ref"], granted["type"], granted["ref"]) == (1, "subscribed", 2)


@pytest.mark.parametrize(
    ("grant", "topic", "is_allowed"),
    [
        (f"{PUBLISH}orders", "orders", True),
        (f"{PUBLISH}orders.*", "orders.eu", True),
        ("admin", "orders", True),
        (f"{PUBLISH}orders", "orders.eu", False),
        (f"{PUBLISH}orders.*", "prices", False),
        (f"{FOLLOW}*", "orders", False),
    ],
)
async def test_publishing_needs_the_scope(
    service: Service, grant: str, topic: str, is_allowed: bool
) -> None:
    key = key_of(service, "alice", grant)
    async with service.client() as client:
        url = f"/topics/{topic}/events"
        response = await client.post(url, json=1, headers=bearer(key))
        anonymous = await client.post(url, json=1, headers={"Authorization": ""})
    told = await command(service, key, "publish", topic=topic, data=1)

    assert (response.status_code, told) == ((202, 101) if is_allowed else (403, 403))
    assert anonymous.status_code == 401


async def test_read_only_topics_stay_read_only_for_everybody(serve: Callable[..., Any]) -> None:
    service = await serve(realtime={"read_only": "orders"})
    key = key_of(service, "root", "admin")
    async with service.client() as client:
        response = await client.post("/topics/orders/events", json=1, headers=bearer(key))

    assert response.status_code == 403
    assert await command(service, key, "publish", topic="orders", data=1) == 403


async def test_the_document_names_the_scopes(service: Service) -> None:
    async with service.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]

    def scopes(path: str, method: str) -> list[str]:
        [found] = {tuple(*each.values()) for each in paths[path][method]["security"]}
        return list(found)

    assert scopes("/topics/{topics}/events", "get") == ["topics:subscribe:{topics}"]
    assert scopes("/topics/{topics}/events", "post") == ["topics:publish:{topics}"]
    assert scopes("/runs/{run_id}/events", "get") == ["runs:follow"]
    assert scopes("/runs/{run_id}/stop", "post") == ["runs:start"]
    assert scopes("/runs/counter", "post") == ["runs:start"]


async def test_the_publish_rate_is_that_of_the_principal(serve: Callable[..., Any]) -> None:
    service = await serve(realtime={"publish_rate": 0.01})
    keys = [key_of(service, owner, f"{PUBLISH}*") for owner in ("alice", "alice", "bob")]
    async with service.client() as client:
        statuses = [
            (await client.post("/topics/t/events", json=1, headers=bearer(key))).status_code
            for key in keys
        ]

    assert statuses == [202, 429, 202]


async def test_streams_and_topics_of_all_keys_of_a_principal_count_together(
    serve: Callable[..., Any],
) -> None:
    service = await serve(streaming={"max_streams_per_client": 1})
    first, second, other = (
        bearer(key_of(service, owner, f"{FOLLOW}*")) for owner in ("alice", "alice", "bob")
    )
    async with converse(service, "t", additional_headers=first), service.client() as client:
        statuses = [
            (await client.get("/topics/t/events?poll=0", headers=headers)).status_code
            for headers in (second, other)
        ]

    assert statuses == [429, 200]


async def test_an_idempotency_key_is_that_of_the_principal(service: Service) -> None:
    keys = [key_of(service, owner, f"{PUBLISH}*") for owner in ("alice", "alice", "bob")]
    async with service.client() as client:
        ids = [
            (
                await client.post(
                    "/topics/t/events", json=1, headers=bearer(key) | {"Idempotency-Key": "k"}
                )
            ).json()["id"]
            for key in keys
        ]

    assert ids[0] == ids[1] != ids[2]
