"""A bucket belongs to one process, or to those that share one Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects import guard as module
from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket
from {{cookiecutter.package_name}}.engine.objects.guard import Guard, guarded
from {{cookiecutter.package_name}}.engine.objects.leases import Leases, open_leases

from ..redis_server import RedisServer
from .faults import FaultProxy
from .test_leases_of_processes import became

#: Enters a guard of one more process, with or without Redis.
Enter = Callable[..., Any]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEAT": 0.2, "DEAD": 1.5, "HOLD": 1.0, "LOOK": 0.05}.items():
        monkeypatch.setattr(module, f"{name}_SECONDS", seconds)


@pytest.fixture
def bucket(bucket_url: str, endpoint_url: str) -> Bucket:
    return Bucket(bucket_url, endpoint_url)


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    async with AsyncExitStack() as stack:

        async def entered(bucket: Bucket, redis: RedisServer | None = None) -> tuple[Guard, Leases]:
            opened = open_leases(redis.url if redis else None, bucket.prefix)
            leases = await stack.enter_async_context(opened)
            return await stack.enter_async_context(guarded(bucket, leases)), leases

        yield entered


async def test_a_second_process_without_redis_is_refused(bucket: Bucket, enter: Enter) -> None:
    guard, leases = await enter(bucket)
    with pytest.raises(OSError, match=r"^another process uses it: .*APP_STORAGE__REDIS_URL$"):
        await enter(bucket)
    assert guard.is_held()
    assert (await leases.take("x")).is_held()


async def test_the_next_process_starts_at_once_and_after_a_crash_later(bucket: Bucket) -> None:
    loop = asyncio.get_running_loop()
    fences = []
    for dies in (False, True, False):
        async with open_leases(None, "") as leases:
            began = loop.time()
            guard = Guard(bucket, leases)
            await guard.start()
            leases.is_guarded = guard.is_held
            lease = await leases.take("x")
            assert lease
            fences.append((lease.fence, lease.taken_over, loop.time() - began > 1.5))
            if not dies:
                await guard.end()
    assert sorted(fences) == fences
    # After the crash, the released leases are unknown.
    assert [each[1:] for each in fences] == [(False, False), (False, False), (True, True)]


async def test_fences_grow_although_the_clock_is_set_back(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences = []
    for seconds in (2_000_000_000, 1_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda seconds=seconds: seconds * 10**9)
        async with open_leases(None, "") as leases, guarded(bucket, leases):
            lease = await leases.take("x")
            assert lease
            fences.append(lease.fence)
    assert fences[1] > fences[0]


async def test_processes_share_a_bucket_through_redis_only(
    bucket: Bucket, enter: Enter, redis: RedisServer, tmp_path: Path
) -> None:
    (first, a), (second, b) = await enter(bucket, redis), await enter(bucket, redis)
    lease = await a.take("x")
    assert lease
    assert not lease.taken_over
    assert await b.take("x") is None
    with pytest.raises(OSError, match=r"^processes with Redis use it"):
        await enter(bucket)
    async with RedisServer(tmp_path / "other") as other:
        with pytest.raises(OSError, match=r"^processes with Redis use it"):
            await enter(bucket, other)
    assert first.is_held()
    assert second.is_held()
    assert lease.is_held()


async def test_processes_of_a_redis_that_lost_its_data_continue(
    bucket: Bucket, enter: Enter, redis: RedisServer
) -> None:
    (first, a), (second, b) = await enter(bucket, redis), await enter(bucket, redis)
    before = a.id
    await redis.run("FLUSHALL")
    await redis.run("HSET", "{" + bucket.prefix + "}:state", "id", "another")
    await became(lambda: a.id == b.id == "another")
    until = first._until, second._until
    await became(lambda: first._until > until[0] + 1 and second._until > until[1] + 1)
    third, c = await enter(bucket, redis)
    assert third.is_held()
    assert before != c.id == "another"


async def test_a_process_that_is_cut_off_from_the_bucket_loses_its_leases(
    bucket_url: str, endpoint_url: str, enter: Enter
) -> None:
    with FaultProxy(endpoint_url) as proxy:
        guard, leases = await enter(Bucket(bucket_url, proxy.url))
        lease = await leases.take("x")
        assert lease.is_held()
        proxy.freeze()
        await became(lambda: not guard.is_held())
        assert not lease.is_held()
        with pytest.raises(Problem) as refused:
            await leases.take("y")
        assert refused.value.status_code == 503
        proxy.thaw()
        # No other process has used the bucket meanwhile.
        await became(guard.is_held)
        assert await leases.take("y")

        proxy.freeze()
        other, _ = await enter(Bucket(bucket_url, endpoint_url))
        assert not guard.is_held()
        proxy.thaw()
        await became(lambda: guard._is_lost)
        assert other.is_held()
        assert not guard.is_held()
