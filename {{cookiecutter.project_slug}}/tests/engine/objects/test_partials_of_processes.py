"""Unfinished uploads of several processes: holders that die, or continue too late."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects.leases_lua import TTL

from ..peer import PATIENCE
from ..redis_server import redis
from .partials import DATA, PART, Opened, Uploads, opened
from .servers import bucket_url, endpoint_url

__all__ = ["bucket_url", "endpoint_url", "opened", "redis"]


@pytest.fixture
async def two(opened: Opened, redis: Any) -> tuple[Uploads, Uploads]:
    """Two processes."""
    first, second = [await opened(redis_url=redis.url) for _ in range(2)]
    await first.storage.leases.begin()
    return first, second


@asynccontextmanager
async def suspended(uploads: Uploads, hold: Any) -> AsyncIterator[None]:
    """Let the process of a holder sleep, just after it has made sure that it holds the lease."""
    lease = hold._lease
    uploads.storage.leases._leases.discard(lease)
    yield
    lease.until = math.inf


async def test_a_suspended_holder_that_continues_changes_nothing(
    two: tuple[Uploads, Uploads],
) -> None:
    a, b = two
    partial = await a.new(completes=True)
    await a.append(partial, DATA[: PART + 3])
    async with a.partials.claimed(partial.id) as hold:
        size = await a.size(partial)
        async with a.partials.open(partial, size) as writer:
            await writer.write(bytes(10))
            await writer.flush()
            end = size + 10
            async with suspended(a, hold), b.partials.claimed(partial.id, PATIENCE) as taken:
                assert taken
                await b.partials.load(partial.id)
                assert await b.size(partial) == end
            # Its bytes arrive, but do not count.
            await writer.write(bytes(2 * PART))
            with pytest.raises(Problem, match="Another process"):
                await writer.flush()
                await a.partials.truncate(partial.id, size)
            with pytest.raises(Problem, match="Another process"):
                await a.partials.save(partial)
        assert await b.size(partial) == end
    await b.append(partial, DATA[end : 2 * PART])
    assert await b.size(partial) == 2 * PART
    await b.commit(partial)
    found = await b.content(partial)
    assert found[:size] + bytes(10) + found[end:] == DATA[:size] + bytes(10) + DATA[end : 2 * PART]


async def test_who_takes_over_and_fails_leaves_that_to_the_next(
    two: tuple[Uploads, Uploads], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    partial = await a.new()
    async with a.partials.claimed(partial.id) as hold, suspended(a, hold):
        async with asyncio.timeout(PATIENCE):
            with monkeypatch.context() as patch, pytest.raises(OSError, match="fails"):
                patch.setattr(b.partials, "_states", AsyncMock(side_effect=OSError("fails")))
                async with b.partials.claimed(partial.id, PATIENCE):
                    pass
            async with b.partials.claimed(partial.id, PATIENCE) as taken:
                assert taken
    with pytest.raises(Problem, match="Another process"):
        a.partials._held[partial.id] = hold
        await a.partials.save(partial)


async def test_a_file_of_another_process_is_not_removed_with_its_upload(
    two: tuple[Uploads, Uploads], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    partial = await a.new(completes=True)
    await a.append(partial, DATA[:10])
    async with a.partials.claimed(partial.id) as hold:
        catch_up = a.storage.catalogue.refresh

        async def sleep_after_that() -> None:
            await catch_up()
            async with suspended(a, hold), b.partials.claimed(partial.id, PATIENCE):
                await b.partials.load(partial.id)
                async with b.partials.open(partial, await b.size(partial)) as writer:
                    await b.storage.commit(writer)

        monkeypatch.setattr(a.storage.catalogue, "refresh", sleep_after_that)
        await a.partials.remove(partial.id)
    assert await b.content(partial) == DATA[:10]


async def test_the_sweep_keeps_parts_that_a_suspended_holder_may_record(
    two: tuple[Uploads, Uploads],
) -> None:
    a, b = two
    partial = await a.new()
    await a.append(partial, DATA[:10])
    async with a.partials.claimed(partial.id) as hold, a.partials.open(partial, 10) as writer:
        begin, loop = writer._begin, asyncio.get_running_loop()

        async def sleep_before_that(multipart: str) -> None:
            async with suspended(a, hold):
                end = loop.time() + 2 * TTL / 1000
                while loop.time() < end:
                    await b.storage.sweep()
                    await asyncio.sleep(0.1)
            await begin(multipart)

        writer._begin = sleep_before_that
        await writer.write(DATA[10:PART])
        await writer.flush()
    await b.partials.load(partial.id)
    assert await b.size(partial) == PART


async def test_a_newer_request_gets_the_upload_within_a_second(
    two: tuple[Uploads, Uploads],
) -> None:
    a, b = two
    partial = await a.new()

    async def receive() -> int:
        async with a.partials.claimed(partial.id, asked_at=0) as hold:
            async with a.partials.open(partial, 0) as writer:
                started.set()
                while not hold.is_wanted():
                    await writer.write(DATA[writer.size : writer.size + 1000])
                    await asyncio.sleep(0.001)
                await writer.flush()
            return int(writer.written)

    started = asyncio.Event()
    receiving = asyncio.create_task(receive())
    await started.wait()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with b.partials.claimed(partial.id, PATIENCE, asked_at=0) as hold:
        assert hold
        await b.partials.load(partial.id)
        assert await b.size(partial) == await receiving
        assert loop.time() - begun < 1.0 + PATIENCE / 10  # The machine may be slow.
    await b.commit(partial)


async def test_what_another_process_has_stored_is_not_removed(
    two: tuple[Uploads, Uploads],
) -> None:
    a, b = two
    partial = await a.new()
    await a.append(partial, DATA[:3])
    b.storage.catalogue.is_shared = False  # It does not learn by itself what the other one does.
    await a.commit(partial)
    b.storage.catalogue.is_shared = True
    async with b.partials.claimed(partial.id):
        await b.partials.expire(partial.id)
    assert await a.content(partial) == DATA[:3]
