"""Runs of two processes: started once, read by pages that are loaded again, and taken over."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.realtime.backends.redis_pool import PREFIX

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import SOAK
from . import words
from .parsers import EventStreamParser, JsonLinesParser, UIMessageParser
from .replicas import (
    Page,
    Parser,
    Replica,
    generations,
    replicas,
    transcript,
    until_generations,
)

__all__ = ["redis", "stopped_redis"]  # Fixtures.

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM"),
]
REQUESTS = 50
#: Words of a text, and seconds between two of them.
WORDS, PAUSE = 300, 0.005
#: Seconds until a page is loaded again: some are after the end.
LONGEST = 1.2 * WORDS * PAUSE
#: How pages read: the format, and whether they continue after the last event of a lost connection.
READERS: list[tuple[type[Parser], bool]] = [
    (EventStreamParser, True),
    (EventStreamParser, False),
    (JsonLinesParser, True),
    (JsonLinesParser, False),
    *([(UIMessageParser, False)] * 2 if find_spec(words.CHAT) else []),
]


@pytest.fixture
async def two(redis: RedisServer, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    async with replicas(tmp_path, redis.url) as both:
        yield both


async def send_all(
    two: list[Replica], method: str, path: str, *bodies: dict[str, Any], **options: Any
) -> list[httpx.Response]:
    """Send requests at once, each on its own connection, to both replicas in turn."""

    async def send(number: int) -> httpx.Response:
        async with two[number % 2].process.client() as client:
            body = bodies[number % len(bodies)]
            return await client.request(method, path, json=body, **options)

    return await asyncio.gather(*map(send, range(REQUESTS)))


async def read(two: list[Replica], run_id: str, *, resumes: bool = True) -> Page:
    urls = [each.url for each in two]
    page = Page(urls, f"/runs/{run_id}/events", EventStreamParser, resumes=resumes)
    await page.read()
    return page


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_requests_that_start_the_same_run_on_two_replicas_start_one_generation(
    method: str, two: list[Replica], tmp_path: Path
) -> None:
    for number in range(SOAK):
        key = f"key-{number}"
        path = "/runs/once" if method == "POST" else f"/runs/once/{key}"
        headers = {"Idempotency-Key": key} if method == "POST" else {}
        body = {"answer": key, "count": 5, "pause": 0.05}
        responses = await send_all(two, method, path, body, headers=headers)
        statuses = sorted(response.status_code for response in responses)
        assert statuses == [200] * (REQUESTS - 1) + [201]
        [(run_id, name)] = {(each.json()["id"], each.json()["name"]) for each in responses}
        assert name == "once"

        async with two[1].process.client() as client:
            other = {**body, "count": 6}
            refused = await client.request(method, path, json=other, headers=headers)
            page = await read(two, run_id)
            late = await client.request(method, path, json=body, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["type"].endswith("idempotency-key-reused")
        assert (page.text, page.end) == (transcript(5), "complete")
        assert (late.status_code, late.json()["id"]) == (200, run_id)
        assert generations(tmp_path, key) == [0]


async def test_requests_with_two_bodies_and_one_key_start_one_of_them(
    two: list[Replica], tmp_path: Path
) -> None:
    bodies = [{"answer": name, "count": 3} for name in ("a", "b", "c")]
    headers = {"Idempotency-Key": "one"}
    responses = await send_all(two, "POST", "/runs/once", *bodies, headers=headers)
    statuses = [response.status_code for response in responses]

    assert statuses.count(201) == 1
    assert set(statuses) == {200, 201, 422}
    [run_id] = {each.json()["id"] for each in responses if each.status_code in (200, 201)}
    assert (await read(two, run_id)).text == transcript(3)
    assert sorted(len(generations(tmp_path, name)) for name in ("a", "b", "c")) == [0, 0, 1]


def page_of(replica: Replica, run_id: str) -> Page:
    return Page([replica.url], f"/runs/{run_id}/events", EventStreamParser, resumes=True)


@pytest.mark.parametrize("count", [40, 10_000])
async def test_a_run_whose_process_is_killed_is_continued_by_another(
    count: int, two: list[Replica], redis: RedisServer, tmp_path: Path
) -> None:
    one, other = two
    run_id = await start(one, "words", answer="a", count=count, pause=2 / count)
    page = page_of(other, run_id)
    reading = asyncio.create_task(page.read())
    await page.has(count // 4)
    await one.kill()
    await reading

    assert (page.text, page.end) == (transcript(count), "complete")
    assert page.connections == 1
    first, second = generations(tmp_path, "a")
    assert first == 0 < second < count
    late = await read([other], run_id)
    assert late.text == transcript(count)
    assert late.frames == 1
    keys = [f"{PREFIX}topic:{kind}:{run_id}" for kind in ("run", "log")]
    assert sum([await redis.run("MEMORY", "USAGE", key) for key in keys]) <= 4 << 20


async def test_a_run_is_taken_over_when_its_process_is_terminated(
    two: list[Replica], tmp_path: Path
) -> None:
    one, other = two
    run_id = await start(one, "words", answer="a", count=60, pause=0.05)
    page = page_of(other, run_id)
    reading = asyncio.create_task(page.read())
    await page.has(10)
    one.process.terminate()
    assert await one.process.exit_code() == 0
    await reading

    assert (page.text, page.end) == (transcript(60), "complete")
    assert len(generations(tmp_path, "a")) == 2


@pytest.mark.parametrize("pause", [0, 0.0005])
async def test_a_process_that_was_suspended_leaves_its_run_to_the_one_that_continued_it(
    pause: float, two: list[Replica], tmp_path: Path
) -> None:
    one, other = two
    run_id = await start(one, "words", answer="a", count=100_000, pause=pause)
    page = page_of(other, run_id)
    reading = asyncio.create_task(page.read())
    await page.has(300)
    one.suspend()
    await until_generations(tmp_path, "a", 2)
    one.resume()
    count = page.text.count(" ")
    await page.has(count + 1000)
    async with one.process.client() as client:
        await client.post(f"/runs/{run_id}/stop")
    await reading

    assert page.end == "stopped"
    assert transcript(100_000).startswith(page.text)
    assert (await read([other], run_id)).text == page.text
    assert len(generations(tmp_path, "a")) == 2


async def test_a_run_that_is_stopped_while_its_process_is_dead_is_not_continued(
    two: list[Replica], tmp_path: Path
) -> None:
    one, other = two
    run_id = await start(one, "words", answer="a", count=100, pause=0.05)
    page = page_of(other, run_id)
    reading = asyncio.create_task(page.read())
    await page.has(10)
    await one.kill()
    async with other.process.client() as client:
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
    await reading

    assert page.end == "stopped"
    assert generations(tmp_path, "a") == [0]


async def test_a_run_that_kills_its_processes_is_ended(two: list[Replica], tmp_path: Path) -> None:
    """The limit of the replicas is 2; the last one that dies is not started again."""
    one, other = two
    run_id = await start(one, "deadly", answer="a")
    reading = asyncio.create_task(read(two, run_id))
    for number, dying in enumerate([one, other, one]):
        await until_generations(tmp_path, "a", number + 1)
        await dying.process.exit_code()
        if number < 2:
            await dying.start()
    page = await reading

    assert (page.text, page.end) == (transcript(3), "interrupted")
    assert generations(tmp_path, "a") == [0, 1, 2]


async def start(replica: Replica, name: str, **parameters: Any) -> str:
    async with replica.process.client() as client:
        response = await client.post(f"/runs/{name}", json=parameters)
        assert response.status_code == 201
        return str(response.json()["id"])


async def test_an_answer_is_generated_once_and_whole_in_every_page_that_is_loaded_again(
    redis: RedisServer, tmp_path: Path
) -> None:
    """Five pages at a time are loaded again once each, while a replica is killed: 100 in a soak."""
    chance = random.Random(SOAK)
    async with replicas(tmp_path, redis.url) as (generator, follower):
        for number in range(SOAK):
            answer = f"answer-{number}"
            body = {"answer": answer, "count": WORDS, "pause": PAUSE}
            async with generator.process.client() as client:
                started = await client.put(f"/runs/once/{answer}", json=body)
            assert started.status_code == 201
            run_id = started.json()["id"]
            urls = [follower.url, generator.url]
            visits = [
                load_twice(urls, run_id, chance.choice(READERS), chance.uniform(0, LONGEST))
                for _ in range(5)
            ]
            restarted = restart(follower, chance.uniform(0, WORDS * PAUSE))
            _, pages = await asyncio.gather(restarted, asyncio.gather(*visits))

            assert [page.text for page in pages] == [transcript(WORDS)] * 5
            assert {page.end for page in pages} == {"complete"}
            assert generations(tmp_path, answer) == [0]


async def load_twice(
    urls: list[str], run_id: str, reader: tuple[type[Parser], bool], seconds: float
) -> Page:
    """Read a run for some seconds, then load the page again, and read it to its end."""
    parser, resumes = reader
    path = f"/runs/{run_id}/{'parts' if parser is UIMessageParser else 'events'}"
    reading = asyncio.create_task(Page(urls, path, parser, resumes=resumes).read())
    await asyncio.wait({reading}, timeout=seconds)
    reading.cancel()
    await asyncio.wait({reading})
    page = Page(urls, path, parser, resumes=resumes)
    await page.read()
    return page


async def restart(killed: Replica, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await killed.kill()
    await killed.start()
