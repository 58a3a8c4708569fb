"""Leases of several processes, in a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import anyio
import pytest

from {{cookiecutter.package_name}}.engine.objects.leases import Leases, open_leases

from ..peer import PATIENCE
from ..redis_server import RedisServer

#: Opens the leases of one more process.
Open = Callable[[], Any]


@pytest.fixture(params=[True, False], ids=["redis", "local"])
async def a(request: pytest.FixtureRequest, stopped_redis: RedisServer) -> AsyncIterator[Leases]:
    """The leases of a process, with and without Redis."""
    if request.param:
        await stopped_redis.start()
    async with open_leases(stopped_redis.url if request.param else None, "test") as leases:
        await leases.begin()
        yield leases


@pytest.fixture
async def more(redis: RedisServer) -> AsyncIterator[Open]:
    """Leases of several processes that use one Redis."""
    async with AsyncExitStack() as stack:

        async def opened() -> Leases:
            return await stack.enter_async_context(open_leases(redis.url, "test"))

        first = await opened()
        await first.begin()
        yield opened


async def until(holds: Callable[[], bool]) -> float:
    """Wait until a condition holds, and return the seconds that it took."""
    start = asyncio.get_running_loop().time()
    with anyio.fail_after(PATIENCE):
        while not holds():
            await asyncio.sleep(0.005)
    return asyncio.get_running_loop().time() - start


async def test_one_holder_at_a_time(a: Leases) -> None:
    first = await a.take("x")
    assert first
    assert first.is_held()
    assert await a.take("x") is None
    other = await a.take("y")
    assert other
    await first.release()
    assert not first.is_held()
    second = await a.take("x")
    assert second
    assert second.fence > other.fence > first.fence
    assert not second.taken_over
    await first.release()  # The lease of another is not released.
    assert await a.take("x") is None


async def test_the_newest_request_wants_the_lease(a: Leases) -> None:
    old, new = await a.ask("x"), await a.ask("x")
    assert new > old
    lease = await a.take("x", new)
    assert lease
    assert not lease.is_wanted()
    assert await a.take("x", old) is None
    await a.ask("y")
    newest = await a.ask("x")
    await until(lease.is_wanted)
    await lease.release()
    lease = await a.take("x", newest)
    assert lease
    assert not lease.is_wanted()


async def test_an_older_request_gives_way_at_once(more: Open) -> None:
    a, b = await more(), await more()
    old, _ = await a.ask("x"), await b.ask("x")
    lease = await a.take("x", old)
    assert lease.is_wanted()


async def test_a_request_of_another_process_is_seen_within_0_1_s(more: Open) -> None:
    a, b = await more(), await more()
    lease = await a.take("x", await a.ask("x"))
    seconds = []
    for _ in range(20):
        assert not lease.is_wanted()
        await b.ask("x")
        seconds.append(await until(lease.is_wanted))
        lease.ticket = lease.asked
    assert median(seconds) < 0.1


async def test_the_leases_of_two_processes_exclude_each_other(more: Open) -> None:
    a, b = await more(), await more()
    first = await a.take("x")
    assert await b.take("x") is None
    await first.release()
    second = await b.take("x")
    assert second.fence > first.fence
    assert not second.taken_over


async def test_a_cancelled_request_keeps_no_lease(more: Open) -> None:
    a, b = await more(), await more()
    for delay in (0, 0.0001, 0.0005, 0.001, 0.002):
        task = asyncio.create_task(a.take("x"))
        await asyncio.sleep(delay)
        if not task.cancel():
            await task.result().release()
        await asyncio.wait([task])
        lease = await b.take("x")
        assert lease, delay
        await lease.release()
