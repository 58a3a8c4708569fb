"""Ranges of objects, also while connections are lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket
from {{cookiecutter.package_name}}.engine.storage.s3 import reading
from {{cookiecutter.package_name}}.engine.storage.s3.pool import S3Pool
from {{cookiecutter.package_name}}.engine.storage.s3.reading import CHUNK, S3File

from ..peer import PATIENCE
from .faults import FaultProxy

pytestmark = pytest.mark.anyio
DATA = random.randbytes(3_000_000)


@pytest.fixture
async def pool(
    proxy: FaultProxy, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[S3Pool]:
    """The pool of a bucket with an object `a`."""
    monkeypatch.setattr(reading, "RETRY_SECONDS", 0.001)
    bucket = Bucket(bucket_url, proxy.url)
    bucket.put(bucket.key("a"), DATA)
    async with bucket.connected() as client:
        yield S3Pool(client, bucket, 1)
    bucket.close()


async def read(pool: S3Pool, start: int, stop: int, name: str = "a") -> bytes:
    async with aclosing(S3File(pool, pool.bucket.key(name)).parts(start, stop)) as chunks:
        found = [chunk async for chunk in chunks]
    assert all(0 < len(chunk) <= CHUNK for chunk in found)
    return b"".join(found)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 3_000_000), (0, 1), (2_999_999, 3_000_000), (17, 1_000_000), (5, 5)]
)
async def test_a_range_has_its_bytes(pool: S3Pool, start: int, stop: int) -> None:
    assert await read(pool, start, stop) == DATA[start:stop]


@pytest.mark.parametrize("step", [600, -600])
async def test_near_ranges_are_read_together(pool: S3Pool, proxy: FaultProxy, step: int) -> None:
    seen = proxy.add(r"^GET .*/a")
    file = S3File(pool, pool.bucket.key("a"), len(DATA))
    first = 1_500_000 if step < 0 else len(DATA) - 1_500_000
    for start in range(first, first + 2000 * step, step):
        async with aclosing(file.parts(start, start + 500)) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == DATA[start : start + 500]
    assert seen.count < 10


async def test_a_lost_connection_is_replaced(pool: S3Pool, proxy: FaultProxy) -> None:
    fault = proxy.add("^GET ", times=20, cut_response=100_000)

    assert await read(pool, 10, 2_900_000) == DATA[10:2_900_000]
    assert fault.count == 20


async def test_a_server_that_recovers_is_read_on(pool: S3Pool, proxy: FaultProxy) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    proxy.add("^GET ", times=6, status=503)

    assert await read(pool, 0, 1_000_000) == DATA[:1_000_000]


async def test_connections_that_are_lost_at_once_are_an_error(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    proxy.add("^GET ", cut_response=0)
    received = 0
    with pytest.raises(Problem) as failed:
        async for chunk in S3File(pool, pool.bucket.key("a")).parts(0, 1_000_000):
            received += len(chunk)

    assert failed.value.status_code == 503
    assert 0 < received <= 100_000


async def test_a_missing_object_is_not_found_before_the_first_byte(pool: S3Pool) -> None:
    with pytest.raises(Problem) as missing:
        await read(pool, 0, 10, "b")
    assert missing.value.status_code == 404


@pytest.mark.parametrize("start", [2_000_000, 3_000_000, 4_000_000])
async def test_an_object_that_is_too_short_is_an_error(pool: S3Pool, start: int) -> None:
    with pytest.raises(EOFError, match="shorter than its record"):
        await read(pool, start, 5_000_000)


async def test_another_object_with_the_same_key_is_not_mixed_in(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    async with aclosing(S3File(pool, pool.bucket.key("a")).parts(0, 1_000_000)) as chunks:
        await anext(chunks)
        await asyncio.to_thread(pool.bucket.put, pool.bucket.key("a"), bytes(3_000_000))
        with pytest.raises(EOFError):
            async for _ in chunks:
                pass


async def test_a_reader_that_stops_stops_the_server(pool: S3Pool, proxy: FaultProxy) -> None:
    """Memory does not grow while a client does not read."""
    pool.bucket.put(pool.bucket.key("large"), bytes(64 << 20))
    async with aclosing(S3File(pool, pool.bucket.key("large")).parts(0, 64 << 20)) as chunks:
        await anext(chunks)
        [connection] = pool.client._endpoint.http_session._sessions[None].connector._acquired
        async with asyncio.timeout(PATIENCE):
            while connection.transport.is_reading():
                await asyncio.sleep(0.01)
