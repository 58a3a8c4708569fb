"""Metrics of several workers: any of them answers for all, also for those that have died."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from ..peer import PATIENCE
from ..service import ServiceProcess
from .test_metrics import TOTAL, figures_of, scrape

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

REQUESTS = (TOTAL, "GET", "complete", "/process", "200")
STREAMS = ("streams_open", "examples")


async def worker(process: ServiceProcess) -> int:
    async with process.client() as client:  # On a connection of its own: whoever takes it answers.
        return int((await client.get("/process")).text)


async def until(process: ServiceProcess, figure: tuple[str, ...], value: float) -> None:
    """Wait until any worker says so: each tells the others a little later."""
    async with asyncio.timeout(PATIENCE):
        while (await scrape(process)).get(figure, 0) != value:
            pass


async def test_any_worker_answers_for_all(workers: ServiceProcess) -> None:
    asked: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while len(set(asked)) < 2:
            asked.append(await worker(workers))

    await until(workers, REQUESTS, len(asked))
    for _ in range(10):
        assert (await scrape(workers))[REQUESTS] == len(asked)


async def test_a_worker_knows_how_it_is_at_another(workers: ServiceProcess) -> None:
    async with workers.raw_connection() as peer, AsyncExitStack() as stack:
        await peer.get("/process")
        await peer.read_head()
        await peer.get("/endless")
        busy = int((await peer.read_head()).partition(b"HTTP")[0])
        async with asyncio.timeout(PATIENCE):
            while True:
                client = await stack.enter_async_context(workers.client())
                if int((await client.get("/process")).text) != busy:
                    break
            while (await figures_of(client)).get(STREAMS) != 1:
                pass


async def test_what_a_dead_worker_counted_stays_and_what_it_had_goes(
    workers: ServiceProcess,
) -> None:
    asked = [await worker(workers)]
    async with workers.raw_connection() as peer:
        await peer.get("/endless")
        await peer.read_head()
        await until(workers, STREAMS, 1)
        async with asyncio.timeout(PATIENCE):
            while len(set(asked)) < 2:
                asked.append(await worker(workers))
        await until(workers, REQUESTS, len(asked))
        for number in set(asked):
            os.kill(number, signal.SIGKILL)
    asked.append(await next_worker(workers))

    await until(workers, STREAMS, 0)
    await until(workers, REQUESTS, len(asked))


async def next_worker(process: ServiceProcess) -> int:
    """Wait for one that comes in the place of others, which have just died."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await worker(process)
            except httpx.TransportError:
                pass


async def test_nothing_is_left_of_their_files(
    process: Callable[..., ServiceProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared := tmp_path / "shared").mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    async with process(WORKERS="2") as running:
        await worker(running)
        assert [*shared.glob("*/counter_*.db")]
        running.terminate()
        assert await running.exit_code() == 0

    assert [*shared.iterdir()] == []
