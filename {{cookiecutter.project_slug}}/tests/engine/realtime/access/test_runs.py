"""Runs belong to the principal that has started them."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from httpx import AsyncClient

from ...service import Service
from ..conversation import refusal
from ..runs import Follower, Script
from .senders import LOBBY, bearer, command, key_of, line

RUNS = ("runs:start", "runs:follow")


async def start(client: AsyncClient, key: str, name: str = "script") -> str:
    response = await client.post(f"/runs/{name}", headers=bearer(key))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def statuses(client: AsyncClient, run_id: str, key: str | None) -> list[int]:
    """Follow and stop a run, and return the statuses."""
    found = []
    for method, url in (("GET", f"/runs/{run_id}/events"), ("POST", f"/runs/{run_id}/stop")):
        async with client.stream(method, url, headers=bearer(key)) as response:
            found.append(response.status_code)
    return found


async def test_a_run_of_another_owner_is_not_there(
    service: Service, client: AsyncClient, script: Script
) -> None:
    alice, bob = (key_of(service, owner, *RUNS) for owner in ("alice", "bob"))
    run_id = await start(client, alice)
    unknown = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")

    for other in (run_id, unknown, run_id[:32], "x", "0" * 32, "0" * 48):
        assert await statuses(client, other, bob) == [404, 404]
    assert await statuses(client, unknown, alice) == [404, 404]
    assert await statuses(client, run_id, key_of(service, "root", "admin")) == [200, 202]
    assert await script.closed()


async def test_two_owners_with_one_idempotency_key_have_a_run_each(
    service: Service, client: AsyncClient
) -> None:
    alice, bob = (key_of(service, owner, *RUNS) for owner in ("alice", "bob"))
    again = key_of(service, "alice", *RUNS)
    found = []
    for key in (alice, bob, again):
        headers = {**bearer(key), "Idempotency-Key": "1"}
        posted = await client.post("/runs/script?key=talk", headers=headers)
        put = await client.put("/runs/script/1?key=talk", headers=bearer(key))
        active = await client.get("/runs?key=talk", headers=bearer(key))
        found.append((posted.status_code, put.status_code, posted.json(), active.json()))
        assert posted.json() == put.json()
        assert active.json() == posted.json()
    of_alice, of_bob, of_alice_again = found

    assert (of_alice[0], of_bob[0], of_alice_again[0]) == (201, 201, 200)
    assert of_alice[2] == of_alice_again[2] != of_bob[2]
    assert await statuses(client, of_alice[2]["id"], bob) == [404, 404]


async def test_a_run_that_has_ended_is_still_that_of_its_owner(
    service: Service, client: AsyncClient, script: Script
) -> None:
    alice, bob = (key_of(service, owner, *RUNS) for owner in ("alice", "bob"))
    again = key_of(service, "alice", *RUNS)
    run_id = await start(client, alice)
    await script.say(service, "a", None)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id, line(again))
        blocks = await follower.rest()
    after = f"/runs/{run_id}/events?last_event_id={blocks[-1]['id']}"
    ended = [(await client.get(after, headers=bearer(key))).status_code for key in (again, bob)]

    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']
    assert ended == [204, 404]
    assert await statuses(client, run_id, bob) == [404, 404]


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        (("runs:start",), [201, 403, 202]),
        (("runs:follow",), [403, 200, 403]),
        (("topics:subscribe:*", "topics:publish:*"), [403, 403, 403]),
    ],
)
async def test_runs_need_scopes(
    service: Service, client: AsyncClient, grants: tuple[str, ...], expected: list[int]
) -> None:
    run_id = await start(client, key_of(service, "alice", *RUNS))
    key = key_of(service, "alice", *grants)
    begun = await client.post("/runs/script", headers=bearer(key))

    assert [begun.status_code, *await statuses(client, run_id, key)] == expected


async def test_anonymous_clients_have_no_runs(service: Service, client: AsyncClient) -> None:
    run_id = await start(client, key_of(service, "alice", *RUNS))

    assert (await client.post("/runs/script")).status_code == 401
    assert await statuses(client, run_id, None) == [401, 401]


async def test_the_topic_of_a_run_cannot_be_named(service: Service, client: AsyncClient) -> None:
    key = key_of(service, "root", "admin")
    run_id = await start(client, key)
    for topic in (f"run:{run_id}", f"run%3A{run_id}", f"stop:{run_id}", "runs:alive", "run:.*"):
        url = f"/topics/{topic}/events"
        read = await client.get(url, headers=bearer(key))
        written = await client.post(url, json=1, headers=bearer(key))
        refused, _ = await refusal(service, topic, additional_headers=bearer(key))
        assert {read.status_code, written.status_code, refused.status_code} == {422}
    name = f"run:{run_id}"
    assert await command(service, key, "subscribe", topics=[LOBBY, name]) == 422
    assert await command(service, key, "publish", topic=name, data=1) == 422


async def test_a_long_run_is_still_that_of_its_owner(
    serve: Callable[..., Any], sections: dict[str, Any]
) -> None:
    realtime = sections.get("realtime", {}) | {"history_size": 1}
    script = Script()
    one, other = await serve(script.router, realtime=realtime), await serve(realtime=realtime)
    followed = other if "broker_url" in realtime else one
    alice, bob = (key_of(one, owner, *RUNS) for owner in ("alice", "bob"))
    async with one.client() as client, followed.client() as there:
        run_id = await start(client, alice)
        async with one.raw_connection() as peer:
            follower = Follower(peer)
            await follower.follow(run_id, line(alice))
            await script.say(one, "a", "b")
            await follower.block()  # So that the first event has been evicted.
            assert await statuses(there, run_id, bob) == [404, 404]
            assert await statuses(there, run_id, alice) == [200, 202]
            assert '{"status":"stopped"}' in [block["data"] for block in await follower.rest()]


async def test_the_runs_of_all_keys_of_a_principal_are_limited_together(
    serve: Callable[..., Any], sections: dict[str, Any], script: Script
) -> None:
    realtime = sections.get("realtime", {}) | {"max_runs_per_client": 1}
    service = await serve(script.router, realtime=realtime)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(service.client())
        begun = [
            await client.post("/runs/script", headers=bearer(key_of(service, owner, *RUNS)))
            for owner in ("alice", "alice", "bob")
        ]

    assert [response.status_code for response in begun] == [201, 429, 201]
