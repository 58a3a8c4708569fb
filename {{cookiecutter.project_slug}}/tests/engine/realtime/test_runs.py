"""Runs: they continue without clients, can be followed anywhere, and always publish their end."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine.realtime import RunRouter
from {{cookiecutter.package_name}}.engine.realtime.messages import Message

from ..service import Service
from .runs import Follower, Script, follow, start
from .subscriber import publish

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def service(serve: Callable[..., Any], script: Script) -> Service:
    started: Service = await serve(script.router)
    return started


async def test_a_run_is_started_with_parameters_and_followed_to_its_end(service: Service) -> None:
    async with service.client() as client:
        response = await client.post("/runs/counter", json={"count": 3, "interval": 0})
    answer = response.json()
    blocks = await follow(service, answer["id"])

    assert (response.status_code, answer["name"]) == (201, "counter")
    assert answer["events"] == f"{service.url}/runs/{answer['id']}/events"
    assert response.headers["location"] == answer["events"]
    assert [json.loads(block["data"]) for block in blocks[:-1]] == [
        {"number": number, "of": 3} for number in (1, 2, 3)
    ]
    assert (blocks[-1]["event"], blocks[-1]["data"]) == ("end", '{"status":"complete"}')


async def test_a_run_without_a_body_has_its_defaults(service: Service, script: Script) -> None:
    async with service.client() as client:
        response = await client.post("/runs/script")
    await script.say(service, "a", None)
    blocks = await follow(service, response.json()["id"])

    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']


async def test_a_run_goes_on_when_its_client_has_left(service: Service, script: Script) -> None:
    run_id = await start(service)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        await script.say(service, "a")
        assert (await follower.block())["data"] == "a"
        peer.reset()
    assert await service.outcome_of("GET /runs/{run_id}/events") == "client_abort"
    await script.say(service, "b", None)
    assert await script.closed()

    blocks = await follow(service, run_id)
    assert [block["data"] for block in blocks] == ["a", "b", '{"status":"complete"}']


async def test_a_client_without_a_position_gets_a_run_from_its_beginning(
    service: Service, script: Script
) -> None:
    await publish(service, "other", "x")
    run_id = await start(service)
    await publish(service, "other", "x")
    await script.say(service, "a", "b")
    async with service.raw_connection() as one, service.raw_connection() as two:
        first, second = Follower(one), Follower(two)
        head = (await first.follow(run_id)).decode().lower()
        assert (await first.block())["data"] == "a"
        await second.follow(run_id)
        await script.say(service, None)
        texts = [[block["data"] for block in await each.rest()] for each in (first, second)]

    assert texts == [["b", '{"status":"complete"}'], ["a", "b", '{"status":"complete"}']]
    assert "content-type: text/event-stream" in head
    assert "cache-control: no-cache, no-transform" in head
    assert await service.outcome_of("GET /runs/{run_id}/events") == "complete"


@pytest.mark.trap("R2", "R3")
@pytest.mark.parametrize("by_query", [False, True])
async def test_a_client_that_comes_back_gets_what_it_missed(
    service: Service, script: Script, by_query: bool
) -> None:
    run_id = await start(service)
    await script.say(service, "a", "b", None)
    seen = (await follow(service, run_id))[0]["id"]
    query = f"?last_event_id={seen}" if by_query else ""
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(
            run_id, *([] if by_query else [f"Last-Event-ID: {seen}"]), query=query
        )
        blocks = await follower.rest()

    assert [block["data"] for block in blocks] == ["b", '{"status":"complete"}']


async def test_a_position_that_is_not_ours_is_told_and_the_run_comes_whole(
    service: Service, script: Script
) -> None:
    run_id = await start(service)
    await script.say(service, "a", None)
    reset, *blocks = await follow(service, run_id, "?last_event_id=ffffffff-1")

    assert (reset["event"], json.loads(reset["data"])["reason"]) == ("reset", "epoch")
    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']


async def test_a_position_before_the_run_gets_it_from_its_beginning(
    service: Service, script: Script
) -> None:
    [before] = await publish(service, "other", "x")
    run_id = await start(service)
    await script.say(service, "a", None)

    blocks = await follow(service, run_id, f"?last_event_id={before}")
    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']


@pytest.mark.trap("R2")
async def test_a_client_that_has_seen_the_end_is_told_that_there_is_no_more(
    service: Service, script: Script
) -> None:
    run_id = await start(service)
    await script.say(service, "a", None)
    end = (await follow(service, run_id))[-1]["id"]

    async with service.client() as client:
        response = await client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": end})
    assert (response.status_code, response.content) == (204, b"")
    assert await service.call(service.app.state.hub.subscriptions) == set()


@pytest.mark.parametrize("run_id", ["0" * 32, "x", "a.*", "counter", "%2E%2E", "(begin)"])
async def test_where_no_run_is_there_is_nothing_to_follow_and_nothing_to_stop(
    service: Service, run_id: str
) -> None:
    async with service.client() as client:
        assert (await client.get(f"/runs/{run_id}/events")).status_code == 204
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 404
    assert await service.call(service.app.state.hub.subscriptions) == set()


async def test_a_run_is_stopped_and_says_so_once(service: Service, script: Script) -> None:
    run_id = await start(service)
    await script.say(service, "a")
    async with service.client() as client:
        for _ in range(2):
            assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
        blocks = await follow(service, run_id)
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202

    assert await script.closed()
    assert [block["data"] for block in blocks] == ["a", '{"status":"stopped"}']
    assert await follow(service, run_id) == blocks


async def test_a_failure_is_told_without_the_words_of_the_exception(
    service: Service, script: Script
) -> None:
    run_id = await start(service)
    await script.say(service, "a", RuntimeError("secret"))
    blocks = await follow(service, run_id)
    end = json.loads(blocks[-1]["data"])

    assert [block.get("event") for block in blocks] == [None, "end"]
    assert (end["status"], end["problem"]["status"]) == ("failed", 500)
    assert "secret" not in blocks[-1]["data"]


async def test_what_a_run_yields_is_sent_as_it_is_or_as_json(
    service: Service, script: Script
) -> None:
    class Row(BaseModel):
        name: str

    run_id = await start(service)
    named = Message('{"a": 1}', event="price", is_json=True)
    await script.say(service, "one\ntwo", Row(name="ä"), {"b": [1]}, named, None)
    blocks = await follow(service, run_id)

    assert [block["data"] for block in blocks[:-1]] == [
        "one\ntwo", '{"name":"ä"}', '{"b":[1]}', '{"a": 1}',
    ]  # fmt: skip
    assert [block.get("event") for block in blocks] == [None, None, None, "price", "end"]


@pytest.mark.parametrize("compact", [None, list])
async def test_a_response_ends_with_the_run_if_its_format_has_nothing_for_the_last_events(
    serve: Callable[..., Any], compact: Callable[[list[Message]], list[Message]] | None
) -> None:
    router = RunRouter(prefix="/runs")

    @router.run("/numbers", compact=compact)
    async def numbers() -> AsyncGenerator[Any]:
        for _ in range(16):  # As many as are sent at once.
            yield "a" * 4096
        for _ in range(100):
            yield {"number": "9" * 4096}

    service = await serve(router)
    run_id = await start(service, "numbers")
    await follow(service, run_id)
    async with service.client() as client, asyncio.timeout(10):  # Before the first heartbeat.
        response = await client.get(f"/runs/{run_id}/events", headers={"Accept": "text/plain"})

    assert response.text == "a" * 16 * 4096


@pytest.mark.parametrize(
    "item", [Message("x", event="end"), Message("x", event="a\nb"), object(), "\ud800"]
)
async def test_what_a_run_may_not_send_fails_it(
    service: Service, script: Script, item: object
) -> None:
    run_id = await start(service)
    await script.say(service, item)
    [end] = await follow(service, run_id)

    assert json.loads(end["data"])["status"] == "failed"
    assert await script.closed()


async def test_a_run_that_waits_for_nothing_lets_others_work_and_can_be_stopped(
    serve: Callable[..., Any],
) -> None:
    endless = RunRouter(prefix="/runs")

    @endless.run("/endless")
    async def yes() -> AsyncGenerator[str]:
        while True:
            yield "y"

    service = await serve(endless)
    run_id = await start(service, "endless")
    async with service.client() as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
    assert (await follow(service, run_id))[-1]["data"] == '{"status":"stopped"}'


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("counter", b'{"count": "many"}', JSON, 422),
        ("counter", b'{"count": "3"}', JSON, 422),
        ("counter", b'{"count": -1}', JSON, 422),
        pytest.param(
            "counter", b'{"count": 151, "interval": 0}', JSON, 422, marks=pytest.mark.bound("3.9")
        ),
        ("counter", b'{"size": 1}', JSON, 422),
        ("counter", b"{", JSON, 422),
        ("counter", b"1", JSON, 422),
        ("counter", b"[3, 0.1]", JSON, 422),
        ("counter", b"count=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("counter", b"{}", {}, 415),
        ("counter", b" " * 1_100_000, JSON, 413),
        ("nothing", b"{}", JSON, 404),
    ],
)
async def test_what_starts_no_run_is_refused(
    service: Service, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with service.client() as client:
        response = await client.post(f"/runs/{path}", content=body, headers=headers)
    assert response.status_code == status
    assert service.app.state.runs._tasks == set()


async def test_nobody_gets_at_the_topic_of_a_run_around_it(service: Service) -> None:
    topic = f"run:{await start(service)}"
    async with service.client() as client:
        assert (await client.get(f"/topics/{topic}/events")).status_code == 422
        url = f"/topics/{topic}/events"
        assert (await client.post(url, content=b"1", headers=JSON)).status_code == 422


async def test_the_parameters_of_a_run_are_documented(service: Service) -> None:
    async with service.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]

    schema = paths["/runs/counter"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"].keys() == {"count", "interval"}
    assert paths["/runs/counter"]["post"]["description"] == "Count slowly."
    answers = paths["/runs/{run_id}/events"]["get"]["responses"]
    formats = {"text/event-stream", "application/jsonl", "text/plain"}
    assert answers["200"]["content"].keys() == formats
    assert "204" in answers
