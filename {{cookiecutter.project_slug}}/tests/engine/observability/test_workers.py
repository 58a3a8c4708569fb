"""Metrics of several workers: each responds with the metrics of all, even of dead workers."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from ..peer import PATIENCE
from ..service import ServiceProcess
from ..signals import KILL
from .test_metrics import TOTAL, figures_of, scrape

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

REQUESTS = (TOTAL, "GET", "complete", "/process", "200")
STREAMS = ("streams_open", "examples")


async def worker(process: ServiceProcess) -> int:
    async with process.client() as client:  # A new connection reaches any worker.
        return int((await client.get("/process")).text)


async def until(process: ServiceProcess, figure: tuple[str, ...], value: float) -> None:
    """Wait until a worker reports this value: each shares its metrics with a delay."""
    async with asyncio.timeout(PATIENCE):
        while (await scrape(process)).get(figure, 0) != value:
            pass


def figures_of_all(worker: int) -> Path:
    """Return the directory that a worker shares with the others."""
    environment = Path(f"/proc/{worker}/environ").read_bytes().decode().split("\0")
    return Path(
        dict(each.split("=", 1) for each in environment if each)["PROMETHEUS_MULTIPROC_DIR"]
    )


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the environment of a process")
@pytest.mark.slow
async def test_any_worker_answers_for_all_and_nothing_is_left_of_them(
    workers: ServiceProcess,
) -> None:
    asked: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while len(set(asked)) < 2:
            asked.append(await worker(workers))
    await until(workers, REQUESTS, len(asked))
    for _ in range(10):
        assert (await scrape(workers))[REQUESTS] == len(asked)

    figures = figures_of_all(asked[0])
    assert [*figures.glob("counter_*.db")]
    workers.terminate()
    assert await workers.exit_code() == 0
    assert not figures.exists()


@pytest.mark.fault("G38")
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the environment of a process")
@pytest.mark.slow
async def test_a_supervisor_that_is_killed_leaves_no_worker_no_port_and_no_file(
    process: Callable[..., ServiceProcess],
) -> None:
    async with process(WORKERS="2") as workers:
        asked = set[int]()
        async with asyncio.timeout(PATIENCE):
            while len(asked) < 2:
                asked.add(await worker(workers))
        figures = figures_of_all(min(asked))
        workers.kill()
        await workers.exit_code()  # Also waits until no process has its output open.

        assert not workers.is_logging()
        socket.create_server(("127.0.0.1", workers.port)).close()
        assert not figures.exists()


@pytest.mark.slow
async def test_levels_of_a_worker_are_shared_and_its_counters_outlive_it(
    workers: ServiceProcess,
) -> None:
    asked: list[int] = []
    async with workers.raw_connection() as peer, AsyncExitStack() as stack:
        await peer.get("/process")
        await peer.read_head()
        await peer.get("/endless")
        asked.append(int((await peer.read_head()).partition(b"HTTP")[0]))
        async with asyncio.timeout(PATIENCE):
            while len(set(asked)) < 2:
                client = await stack.enter_async_context(workers.client())
                asked.append(int((await client.get("/process")).text))
            while (await figures_of(client)).get(STREAMS) != 1:
                pass
        await until(workers, REQUESTS, len(asked))
        for number in set(asked):
            os.kill(number, KILL)
    asked.append(await next_worker(workers))

    await until(workers, STREAMS, 0)
    await until(workers, REQUESTS, len(asked))


async def next_worker(process: ServiceProcess) -> int:
    """Wait for a worker that replaces others, which have just died."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await worker(process)
            except httpx.TransportError:
                pass
