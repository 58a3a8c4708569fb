"""Leases of processes that are killed, suspended, or cut off from Redis."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects import leases as leases_module
from {{cookiecutter.package_name}}.engine.objects.leases import (
    Lease,
    Leases,
    open_leases,
)

from ..peer import PATIENCE
from ..redis_server import RedisServer
from ..service import SOAK
from ..signals import CONTINUE, STOP
from . import holder
from .faults import FaultProxy

pytestmark = pytest.mark.slow


class Holder:
    """A process of `holder`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def run(self, command: str, patience: float = PATIENCE) -> list[str]:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n".encode())
        return await self.read(patience)

    async def read(self, patience: float = PATIENCE) -> list[str]:
        assert self.process.stdout
        with anyio.fail_after(patience):
            return (await self.process.stdout.readline()).decode().split()


#: Starts a process.
Start = Callable[[str], Awaitable[Holder]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    holders: list[Holder] = []

    async def started(url: str) -> Holder:
        program = [sys.executable, "-m", holder.__name__, url]
        made = Holder(await asyncio.create_subprocess_exec(*program, stdin=PIPE, stdout=PIPE))
        holders.append(made)
        assert await made.read() == ["ready"]
        return made

    yield started
    for each in holders:
        if each.process.returncode is None:
            each.process.kill()
        await each.process.communicate()


@pytest.fixture
async def leases(redis: RedisServer) -> AsyncIterator[Leases]:
    """The leases of this process, in a Redis of some time ago."""
    async with open_leases(redis.url, "test") as opened:
        await opened.begin()
        yield opened


async def test_the_lease_of_a_killed_process_is_taken_over(
    start: Start, redis: RedisServer, leases: Leases
) -> None:
    dying = await start(redis.url)
    fence, taken_over = await dying.run("take x")
    assert taken_over == "False"
    dying.process.kill()
    with anyio.fail_after(PATIENCE):
        lease = await holder.taken(leases, "x")
    assert lease.fence > int(fence)
    assert lease.taken_over
    await lease.release()
    lease = await holder.taken(leases, "x")
    assert not lease.taken_over


async def test_a_process_that_was_suspended_knows_that_it_lost_its_lease(
    start: Start, redis: RedisServer, leases: Leases
) -> None:
    suspended = await start(redis.url)
    fence, _ = await suspended.run("take x")
    suspended.process.send_signal(STOP)
    with anyio.fail_after(PATIENCE):
        lease = await holder.taken(leases, "x")
    suspended.process.send_signal(CONTINUE)
    assert await suspended.run("state") == ["False", "False"]
    assert lease.fence > int(fence)
    # Its renewals and its release do not harm the new holder.
    await suspended.run("release")
    assert await leases.take("x") is None
    assert lease.is_held()


async def test_a_holder_sees_what_another_process_asks_for(
    start: Start, redis: RedisServer
) -> None:
    a, b = await start(redis.url), await start(redis.url)
    await a.run("take x")
    await b.run("ask y")
    assert await a.run("state") == ["True", "False"]
    await b.run("ask x")
    with anyio.fail_after(PATIENCE):
        while await a.run("state") != ["True", "True"]:
            await asyncio.sleep(0.01)


async def test_no_increment_of_two_processes_is_lost(
    start: Start, redis: RedisServer, leases: Leases, tmp_path: Path
) -> None:
    path = tmp_path / "counter"
    path.write_text("0")
    times = 50 * SOAK
    both = [await start(redis.url), await start(redis.url)]
    patience = PATIENCE * SOAK
    await asyncio.gather(*(each.run(f"count {path} {times}", patience) for each in both))
    assert int(path.read_text()) == 2 * times


async def test_a_lease_survives_cut_connections(redis: RedisServer) -> None:
    with FaultProxy(redis.url) as proxy:
        async with open_leases(proxy.url, "test") as leases:
            await leases.begin()
            lease = await leases.take("x")
            assert lease
            for _ in range(3):
                proxy.cut()
                await is_renewed(lease)
            assert lease.is_held()
            assert await leases.ask("x") > lease.fence


async def test_a_lease_whose_reply_was_lost_is_taken_once(redis: RedisServer) -> None:
    with FaultProxy(redis.url) as proxy:
        async with open_leases(proxy.url, "test") as leases:
            await leases.begin()
            fault = proxy.add("EVALSHA", times=1, lose=True)
            lease = await leases.take("x")
            assert fault.count == 1
            assert lease
            assert lease.is_held()
            assert not lease.taken_over


async def test_a_late_renewal_does_not_revive_a_lease(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "RENEWAL_SECONDS", PATIENCE)
    with FaultProxy(redis.url) as proxy:
        async with open_leases(proxy.url, "test") as leases:
            await leases.begin()
            lease = await leases.take("x")
            assert lease
            renewal = proxy.add("EVALSHA", times=1, hold_request=True)
            await became(lambda: not lease.is_held())
            until, following = lease.until, proxy.add("EVALSHA")
            renewal.release()
            await anyio.to_thread.run_sync(following.wait)
            assert lease.until == until


async def test_without_redis_leases_are_lost_and_cannot_be_taken(redis: RedisServer) -> None:
    with FaultProxy(redis.url) as proxy:
        async with (
            open_leases(proxy.url, "test") as leases,
            open_leases(redis.url, "test") as other,
        ):
            await leases.begin()
            lease = await leases.take("x")
            assert lease
            proxy.freeze()
            with anyio.fail_after(PATIENCE):
                newer = await holder.taken(other, "x")
            assert not lease.is_held()
            assert newer.fence > lease.fence
            with pytest.raises(Problem) as refused:
                await leases.take("y")
            assert refused.value.status_code == 503
            assert refused.value.headers is not None
            assert int(refused.value.headers["Retry-After"]) > 0
            with pytest.raises(Problem):
                await leases.ask("y")
            proxy.thaw()
            with anyio.fail_after(PATIENCE):
                await holder.taken(leases, "y")
            assert not lease.is_held()
            assert await leases.take("x") is None


async def test_a_lease_survives_a_restart_of_redis(redis: RedisServer, leases: Leases) -> None:
    lease = await leases.take("x")
    assert lease
    await redis.stop()
    await redis.start()
    await is_renewed(lease)
    assert lease.is_held()


async def test_a_redis_that_lost_its_data_grants_no_lease_that_is_held(
    redis: RedisServer, leases: Leases
) -> None:
    """One holder renews its lease in time, the other is cut off and loses it before."""
    with FaultProxy(redis.url) as proxy:
        async with open_leases(proxy.url, "test") as cut_off:
            kept, lost = await leases.take("kept"), await cut_off.take("lost")
            assert kept
            assert lost
            before = leases.id
            proxy.refuse()
            redis.kill()
            await redis.start()
            with pytest.raises(Problem) as refused:
                await leases.take("lost")
            assert refused.value.status_code == 503
            with anyio.fail_after(PATIENCE):
                lease = await holder.taken(leases, "lost")
            assert not lost.is_held()
            assert lease.fence > max(lost.fence, kept.fence)
            assert lease.taken_over
            assert kept.is_held()
            assert await leases.take("kept") is None
            assert leases.id == before


async def test_the_newer_of_two_holders_wins_after_a_restart_with_older_data(
    redis: RedisServer, leases: Leases
) -> None:
    first = await leases.take("x")
    assert first
    await redis.run("SAVE")
    await first.release()
    second = await leases.take("x")
    assert second
    redis.kill()
    await redis.start()
    await is_renewed(second)
    assert second.is_held()
    await second.release()
    with anyio.fail_after(PATIENCE):
        third = await holder.taken(leases, "x")
    assert third.fence > second.fence


async def test_lost_scripts_are_loaded_again(redis: RedisServer, leases: Leases) -> None:
    await redis.run("SCRIPT", "FLUSH")
    lease = await leases.take("x")
    assert lease
    await redis.run("SCRIPT", "FLUSH")
    await lease.release()
    assert await leases.take("x")


async def test_a_replica_grants_no_leases(redis: RedisServer, leases: Leases) -> None:
    """As after a failover in which the old primary becomes a replica."""
    lease = await leases.take("x")
    assert lease
    await redis.run("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(Problem):
        await leases.take("y")
    await became(lambda: not lease.is_held())
    await redis.run("REPLICAOF", "NO", "ONE")
    with anyio.fail_after(PATIENCE):
        await holder.taken(leases, "x")


async def test_a_full_redis_renews_leases(redis: RedisServer, leases: Leases) -> None:
    lease = await leases.take("x")
    assert lease
    await redis.run("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(Problem):
        await leases.take("y")
    await is_renewed(lease)


async def became(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds that has no event."""
    with anyio.fail_after(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def is_renewed(lease: Lease) -> None:
    """Wait until Redis has renewed a lease."""
    until = lease.until
    await became(lambda: lease.until > until)
