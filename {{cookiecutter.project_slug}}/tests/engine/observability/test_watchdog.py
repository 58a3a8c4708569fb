"""The watchdog: a stuck event loop is reported, and its process is not live."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from .test_metrics import scrape


def told(process: ServiceProcess, words: str) -> list[Any]:
    return [line for line in map(json.loads, process.log) if words in line["event"]]


def told_of_the_sleep(process: ServiceProcess) -> list[Any]:
    """Return the lines about the loop that the example stopped: a busy machine may do so too."""
    lines = told(process, "The event loop has not responded for ")
    return [line for line in lines if "time.sleep(seconds)" in line["event"]]


async def live(process: ServiceProcess) -> int:
    async with process.client() as client:
        return (await client.get("/health/live")).status_code


async def until_live(process: ServiceProcess) -> None:
    async with asyncio.timeout(PATIENCE):
        while await live(process) != 200:
            pass


@pytest.mark.bound("H12")
@pytest.mark.slow
async def test_a_stuck_loop_is_reported_once_and_not_live_until_it_has_run_for_a_while(
    process: Callable[..., ServiceProcess],
) -> None:
    async with process(SERVER__STUCK_AFTER="500 ms") as running:
        async with running.raw_connection() as peer:
            await peer.get("/stuck?seconds=2.5")
            await peer.get("/health/live")  # The response is sent when the loop continues.
            assert b" 200 " in await peer.read_head()
            assert b" 503 " in await peer.read_head()
        await until_live(running)
        reported = len(told(running, "The event loop has not responded for "))
        figures = await scrape(running)
        running.terminate()
        assert await running.exit_code() == 0

    [line] = told_of_the_sleep(running)
    assert line["level"] == "error"
    stalls = len(told(running, "The event loop has not responded for "))
    assert len(told(running, "The event loop responds again, after ")) == stalls
    # A busy machine may stop the loop once more after the metrics were read.
    assert max(reported, 1) <= figures["event_loop_stalls_total",] <= stalls
    assert figures["event_loop_lag_seconds_sum",] > 1


@pytest.mark.slow
async def test_a_slow_answer_is_not_a_stuck_loop(process: Callable[..., ServiceProcess]) -> None:
    async with process() as running, running.client() as client:
        await client.get("/stuck?seconds=1")
        assert await live(running) == 200
        running.terminate()
        assert await running.exit_code() == 0

    assert told(running, "The event loop") == []


async def test_the_thread_ends_with_the_service(sections: Any) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "watchdog"]

    async with Service(**sections):
        assert threads() == ["watchdog"]
    assert threads() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no worker from another")
@pytest.mark.bound("H12")
@pytest.mark.slow
async def test_a_stuck_worker_is_replaced_and_others_go_on(
    workers: ServiceProcess,
) -> None:
    async with workers.raw_connection() as peer:
        await peer.get("/stuck?seconds=3600")
        assert await peer.read_to_end() == b""
    await until_live(workers)
    workers.terminate()
    assert await workers.exit_code() == 0

    assert len(told_of_the_sleep(workers)) == 1
    ends = told(workers, "The event loop is stuck: process ")
    assert {line["level"] for line in ends} == {"critical"}
