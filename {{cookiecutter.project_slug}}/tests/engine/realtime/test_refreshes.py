"""Answers that are read by pages while these are loaded again, and while replicas are killed."""

import asyncio
import random
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ..service import SOAK
from . import replica
from .parsers import EventStreamParser, JsonLinesParser, UIMessageParser
from .redis import RedisServer, redis, stopped_redis
from .replicas import Page, Parser, Replica, generations, replicas, transcript

__all__ = ["redis", "stopped_redis"]  # Fixtures.

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
#: Words of an answer, and seconds between two of them.
WORDS, PAUSE = 300, 0.005
#: Seconds until a page is loaded again: some are after the end.
LONGEST = 1.2 * WORDS * PAUSE
#: How pages read: the format, and whether they continue after the last event of a lost connection.
READERS: list[tuple[type[Parser], bool]] = [
    (EventStreamParser, True),
    (EventStreamParser, False),
    (JsonLinesParser, True),
    (JsonLinesParser, False),
    *([(UIMessageParser, False)] * 2 if find_spec(replica.CHAT) else []),
]


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
    """Read an answer for some seconds, then load the page again, and read it to its end."""
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
