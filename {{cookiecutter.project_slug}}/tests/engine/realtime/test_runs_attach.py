"""Runs that are started once: by an Idempotency-Key, by a client's own id, and found by a key."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.realtime import RunRouter
from {{cookiecutter.package_name}}.runs import counter

from ..service import Service
from .runs import Script, follow, start


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def service(serve: Callable[..., Any], script: Script) -> Service:
    started: Service = await serve(script.router)
    return started


async def post(service: Service, key: str, **parameters: Any) -> httpx.Response:
    async with service.client() as client:
        headers = {"Idempotency-Key": key}
        body = {"interval": 60, **parameters}
        response: httpx.Response = await client.post("/runs/counter", json=body, headers=headers)
        return response


async def test_a_repeated_request_gets_the_run_of_the_first(service: Service) -> None:
    first, second = await post(service, "a"), await post(service, "a")
    other = await post(service, "b")

    assert [each.status_code for each in (first, second, other)] == [201, 200, 201]
    assert first.json() == second.json() != other.json()
    assert second.headers["location"] == first.json()["events"]
    assert service.app.state.runs.count() == 2


async def test_requests_at_the_same_time_start_one_run(service: Service) -> None:
    answers = await asyncio.gather(*(post(service, "a") for _ in range(10)))

    assert sorted(each.status_code for each in answers) == [200] * 9 + [201]
    assert len({each.json()["id"] for each in answers}) == 1
    assert service.app.state.runs.count() == 1


async def test_a_key_is_for_one_body_also_when_the_beginning_of_the_run_was_evicted(
    serve: Callable[..., Any],
) -> None:
    service: Service = await serve(realtime={"history_size": 5})
    first = await post(service, "a", interval=0)
    await follow(service, first.json()["id"])

    assert (await post(service, "a", interval=0)).status_code == 200
    assert (await post(service, "a", interval=0, count=4)).status_code == 422


async def test_a_key_is_for_one_body(service: Service) -> None:
    assert (await post(service, "a", count=3)).status_code == 201
    refused = await post(service, "a", count=4)

    assert refused.status_code == 422
    assert service.app.state.runs.count() == 1


async def test_space_in_the_body_makes_no_difference(service: Service) -> None:
    headers = {"Idempotency-Key": "a", "Content-Type": "application/json"}
    async with service.client() as client:
        bodies = (b'{"count":2,"interval":60}', b'{ "count": 2,\n"interval": 60}')
        answers = [
            await client.post("/runs/counter", content=body, headers=headers) for body in bodies
        ]
    assert [each.status_code for each in answers] == [201, 200]


async def test_a_run_that_has_ended_is_not_started_again(service: Service, script: Script) -> None:
    async with service.client() as client:
        headers = {"Idempotency-Key": "a"}
        run_id = (await client.post("/runs/script", headers=headers)).json()["id"]
        await script.say(service, "x", None)
        blocks = await follow(service, run_id)
        again = await client.post("/runs/script", headers=headers)

    assert (again.status_code, again.json()["id"]) == (200, run_id)
    assert await follow(service, run_id) == blocks


async def test_a_client_chooses_the_id_of_a_run(service: Service) -> None:
    async with service.client() as client:
        body = {"interval": 60}
        answers = [await client.put("/runs/counter/mine", json=body) for _ in range(2)]
        keyed = await post(service, "mine")
        other = await client.put("/runs/counter/mine", json={"interval": 50})
        malformed = await client.put("/runs/counter/a%20b", json=body)

    assert [each.status_code for each in answers] == [201, 200]
    assert answers[0].json() == answers[1].json() == keyed.json()
    assert (other.status_code, malformed.status_code) == (422, 422)


async def test_the_active_run_of_a_key_is_found_until_it_ends(
    service: Service, script: Script
) -> None:
    async with service.client() as client:
        assert (await client.get("/runs?key=talk")).status_code == 204
        started = (await client.post("/runs/script?key=talk")).json()
        await start(service, "counter", interval=60)
        found = await client.get("/runs?key=talk")
        assert (found.status_code, found.json()) == (200, started)

        await script.say(service, None)
        await follow(service, started["id"])
        assert (await client.get("/runs?key=talk")).status_code == 204
        assert (await client.get("/runs")).status_code == 422


async def test_the_newest_active_run_of_a_key_is_found(service: Service) -> None:
    async with service.client() as client:
        old, new = [
            (await client.post("/runs/counter?key=talk", json={"interval": 60})).json()
            for _ in range(2)
        ]
        assert (await client.get("/runs?key=talk")).json() == new
        await client.post(f"/runs/{new['id']}/stop")
        await follow(service, new["id"])
        assert (await client.get("/runs?key=talk")).json() == old


async def test_a_start_is_not_cut_short_by_a_request_that_is_cancelled(service: Service) -> None:
    """The key is claimed then, so no other request would start the run."""
    runs = service.app.state.runs
    claim, claimed = runs.hub.claim, threading.Event()

    async def slow(*arguments: Any) -> bool:
        is_mine: bool = await claim(*arguments)
        claimed.set()
        for _ in range(100):
            await asyncio.sleep(0)
        return is_mine

    async def cancelled() -> None:
        runs.hub.claim = slow
        task = asyncio.ensure_future(runs.attach(counter, {"interval": 60}, once="a"))
        while not claimed.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        runs.hub.claim = claim

    async def launched() -> None:
        while runs.count() != 1:
            await asyncio.sleep(0)

    await service.in_server(cancelled())
    again = await service.in_server(runs.attach(counter, {"interval": 60}, once="a"))
    assert not again.is_new
    await service.in_server(launched())


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("application/jsonl", "application/jsonl"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/plain;q=0.5, application/jsonl;q=0.9", "application/jsonl"),
    ],
)
async def test_a_client_chooses_the_format(
    serve: Callable[..., Any], accept: str, media_type: str
) -> None:
    words = RunRouter(prefix="/runs")

    @words.run("/words")
    async def speak() -> AsyncGenerator[Any]:
        yield "one "
        yield {"type": "text", "text": "two\n"}
        yield {"number": 3}

    service = await serve(words)
    run_id = await start(service, "words")
    async with service.client() as client:
        answer = await client.get(f"/runs/{run_id}/events", headers={"Accept": accept})

    assert answer.headers["content-type"].startswith(media_type)
    if "plain" in media_type:
        assert answer.text == "one two\n"
    elif "jsonl" in media_type:
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["data"] for line in lines] == [
            "one ", {"type": "text", "text": "two\n"}, {"number": 3}, {"status": "complete"},
        ]  # fmt: skip
        assert lines[-1]["event"] == "end"
    else:
        assert answer.text.count("data: ") == 4
