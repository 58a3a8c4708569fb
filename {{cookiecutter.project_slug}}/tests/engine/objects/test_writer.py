"""Files that are written to S3 in parts, also while requests fail."""

import asyncio
import hashlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket, BucketError
from {{cookiecutter.package_name}}.engine.storage.interface import Callbacks
from {{cookiecutter.package_name}}.engine.storage.records import Draft, new_id
from {{cookiecutter.package_name}}.engine.storage.s3 import body as bodies, pool as pools
from {{cookiecutter.package_name}}.engine.storage.s3.body import SMALL, Body
from {{cookiecutter.package_name}}.engine.storage.s3.pool import READERS, S3Pool
from {{cookiecutter.package_name}}.engine.storage.s3.reading import S3File
from {{cookiecutter.package_name}}.engine.storage.s3.store import S3Place
from {{cookiecutter.package_name}}.engine.storage.s3.writer import (
    MIN_PART,
    Multipart,
    S3Writer,
)
from {{cookiecutter.package_name}}.engine.storage.writer import BLOCK

from ..peer import PATIENCE
from .faults import FaultProxy
from .servers import BUCKET, client

pytestmark = pytest.mark.anyio
SIZES = [0, 1, 4096, MIN_PART - 1, MIN_PART, MIN_PART + 1, 3 * MIN_PART + 7]


@dataclass
class Store:
    """A bucket behind a proxy, with a writer's pool."""

    bucket: Bucket
    pool: S3Pool
    endpoint_url: str

    @asynccontextmanager
    async def writer(
        self, expected: int = 0, callbacks: tuple[Callbacks, ...] = (), **arguments: Any
    ) -> AsyncIterator[S3Writer]:
        file_id = new_id()
        parts = Multipart(self.pool, self.bucket.key(file_id), {}, expected)
        place = S3Place(self.bucket)
        made = S3Writer(file_id, Draft(filename="f"), parts, place, callbacks, **arguments)
        try:
            yield made
        finally:
            await made.close()
            assert self.pool.buffered == 0

    async def read(self, key: str, size: int) -> bytes:
        return b"".join([chunk async for chunk in S3File(self.pool, key).parts(0, size)])

    def keys(self) -> list[str]:
        """Return the keys of all objects and multipart uploads."""
        s3 = client(self.endpoint_url)
        pages = s3.list_multipart_uploads(Bucket=BUCKET, Prefix=self.bucket.prefix)
        uploads = [each["Key"] for each in pages.get("Uploads", [])]
        s3.close()
        return [*uploads, *(entry.key for entry in self.bucket.list(self.bucket.prefix))]


@pytest.fixture
async def store(endpoint_url: str, proxy: FaultProxy, bucket_url: str) -> AsyncIterator[Store]:
    bucket = Bucket(bucket_url, proxy.url)
    async with bucket.connected() as s3:
        yield Store(bucket, S3Pool(s3, bucket, 256 << 20), endpoint_url)
    bucket.close()


def chunks_of(data: bytes) -> Iterator[bytes | memoryview]:
    """Cut bytes into chunks of different sizes, as they arrive from a socket."""
    view, start = memoryview(data), 0
    while start < len(data):
        size = random.choice([1, 1000, 65536, 65536, 262144])
        yield bytes(view[start : start + size]) if size % 2 else view[start : start + size]
        start += size


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("size", SIZES)
async def test_all_bytes_are_stored(store: Store, size: int, is_known: bool) -> None:
    data, digest = random.randbytes(size), hashlib.sha256()
    async with store.writer(size if is_known else 0, tap=digest.update) as writer:
        for chunk in chunks_of(data):
            await writer.write(chunk)
        await writer.finish()

        assert writer.written == writer.size == size
        assert await store.read(writer.multipart.key, size) == data
    assert digest.digest() == hashlib.sha256(data).digest()
    assert store.keys() == [writer.multipart.key]


@pytest.mark.parametrize(
    "what",
    [{"status": 503}, {"status": 500}, {"cut_request": 50_000}, {"lose": True}],
    ids=lambda each: str(each),
)
@pytest.mark.parametrize("size", [100_000, 2 * MIN_PART + 5])
async def test_requests_that_fail_are_repeated(
    store: Store, proxy: FaultProxy, what: dict[str, Any], size: int
) -> None:
    fault = proxy.add(rf"^PUT .*{store.bucket.prefix}", times=2, **what)
    data = random.randbytes(size)
    async with store.writer(size) as writer:
        for chunk in chunks_of(data):
            await writer.write(chunk)
        await writer.finish()

        assert fault.count == 2
        assert await store.read(writer.multipart.key, size) == data


async def test_a_completion_whose_response_is_lost_has_succeeded(
    store: Store, proxy: FaultProxy
) -> None:
    fault = proxy.add(r"^POST .*uploadId=", times=1, lose=True)
    data = random.randbytes(MIN_PART + 5)
    async with store.writer() as writer:
        await writer.write(data)
        await writer.finish()

        assert fault.count == 1
        assert await store.read(writer.multipart.key, len(data)) == data


async def test_a_completion_that_never_succeeds_fails(store: Store, proxy: FaultProxy) -> None:
    proxy.add(r"^POST .*uploadId=", status=503)
    async with store.writer() as writer:
        await writer.write(bytes(MIN_PART + 5))
        with pytest.raises(Problem) as failed:
            await writer.finish()
        proxy.clear()
        await writer.multipart.remove()

    assert failed.value.status_code == 503
    assert failed.value.headers == {"Retry-After": "10"}
    assert store.keys() == []


async def test_another_object_with_the_key_is_not_replaced(store: Store) -> None:
    for size in (10, MIN_PART + 10):
        async with store.writer() as writer:
            store.bucket.put(writer.multipart.key, b"other")
            await writer.write(bytes(size))
            with pytest.raises(Problem) as failed:
                await writer.finish()

            assert isinstance(failed.value.__cause__, BucketError)
            assert store.bucket.get(writer.multipart.key) == b"other"


async def test_a_part_that_fails_fails_the_next_writes(store: Store, proxy: FaultProxy) -> None:
    fault = proxy.add(r"^PUT .*partNumber=1", status=403)
    async with store.writer() as writer:
        await writer.write(bytes(MIN_PART))
        await asyncio.to_thread(fault.wait)
        with pytest.raises(Problem):
            for _ in range(10):
                await writer.write(bytes(MIN_PART))
        for _ in range(2):
            with pytest.raises(Problem):
                await writer.flush()
        await writer.multipart.remove()

    assert store.keys() == []


async def test_a_refusal_is_an_error_of_one_upload(store: Store, proxy: FaultProxy) -> None:
    proxy.add("^PUT .*partNumber=2", status=404)  # Such as after the sweep removed the parts.
    async with store.writer() as writer:
        with pytest.raises(Problem) as failed:
            await writer.write(bytes(MIN_PART))
            await writer.write(bytes(MIN_PART))
            await writer.finish()

        assert failed.value.status_code == 503
        assert writer._place.is_up()


async def test_at_most_two_parts_are_on_their_way(store: Store, proxy: FaultProxy) -> None:
    fault = proxy.add(r"^PUT .*partNumber=", hold_request=True)
    async with store.writer() as writer:
        for _ in range(2):
            await writer.write(bytes(MIN_PART))
        await asyncio.to_thread(fault.wait, 2)
        await writer.write(bytes(MIN_PART - 1))
        blocked = asyncio.create_task(writer.write(b"1"))
        while store.pool.buffered < 3 * MIN_PART:
            await asyncio.sleep(0)
        assert not (await asyncio.wait({blocked}, timeout=0.2))[0]
        fault.remove()
        await asyncio.wait_for(blocked, PATIENCE)
        await writer.finish()

    assert fault.count == 2


async def test_a_cancelled_upload_frees_its_memory(store: Store, proxy: FaultProxy) -> None:
    fault = proxy.add(r"^PUT .*partNumber=", hold_request=True)
    async with store.writer() as writer:
        writing = asyncio.create_task(writer.write(bytes(4 * MIN_PART)))
        await asyncio.to_thread(fault.wait, 2)
        writing.cancel()
        await asyncio.wait({writing})
        await writer.close()
        assert store.pool.buffered == 0
        proxy.clear()
        await writer.multipart.remove()

    assert store.keys() == []


async def test_uploads_wait_for_memory_in_order(store: Store) -> None:
    pool = S3Pool(None, store.bucket, 10)
    order = []

    async def use(name: str, size: int) -> None:
        assert await pool.take(size)
        order.append(name)

    await pool.take(6)
    waiting = []
    for name, size in [("a", 5), ("b", 1), ("c", 20), ("d", 1)]:
        waiting.append(asyncio.create_task(use(name, size)))
        await asyncio.sleep(0)
    assert order == []  # Even `b` has to wait, for which there is space.

    pool.give(6)
    await asyncio.wait(waiting[:2])
    assert order == ["a", "b"]
    assert pool.buffered == 6
    waiting[2].cancel()
    await asyncio.wait(waiting)
    assert order == ["a", "b", "d"]
    pool.give(7)
    assert pool.buffered == 0

    await asyncio.wait_for(pool.take(20), PATIENCE)  # More than the maximum, but alone.
    pool.give(20)


async def test_slow_clients_do_not_let_each_part_of_the_others_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WAIT_SECONDS", 0.01)
    pool = S3Pool(None, store.bucket, 10)
    await pool.take(10)
    assert not await pool.take(1)
    monkeypatch.setattr(pools, "WAIT_SECONDS", 2 * PATIENCE)
    assert not await asyncio.wait_for(pool.take(1), PATIENCE)

    pool.give(10)
    assert await pool.take(1)


@pytest.mark.parametrize("size", [1, MIN_PART, 3 * MIN_PART + 7])
async def test_without_memory_a_part_continues_in_a_file(
    store: Store, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(pools, "WAIT_SECONDS", 0.001)
    data, digest, progress = random.randbytes(size), hashlib.sha256(), [0]

    async def on_progress(_: str, checked: int) -> None:
        progress.append(checked)

    await store.pool.take(256 << 20)
    callbacks = (Callbacks(on_progress=on_progress),)
    async with store.writer(callbacks=callbacks, tap=digest.update) as writer:
        for chunk in chunks_of(data):
            await writer.write(chunk)
            assert store.pool.buffered <= (256 << 20) + 3 * SMALL  # Two parts are being sent.
        await writer.finish()
        store.pool.give(256 << 20)

        assert progress[-1] == size
        assert len(progress) <= size // BLOCK + size // MIN_PART + 2

        assert await store.read(writer.multipart.key, size) == data
    assert digest.digest() == hashlib.sha256(data).digest()


async def test_a_request_from_a_file_is_repeated(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MOST_HELD", 1 << 20)  # A larger part is in a file.
    fault = proxy.add(r"^PUT .*partNumber=", times=2, cut_request=1 << 20)
    data = random.randbytes(2 * MIN_PART + 5)
    async with store.writer() as writer:
        for chunk in chunks_of(data):
            await writer.write(chunk)
            assert store.pool.buffered <= (1 << 20) + 2 * SMALL
        await writer.finish()

        assert fault.count == 2
        assert await store.read(writer.multipart.key, len(data)) == data


async def test_requests_that_overlap_read_the_same_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ", 4096)
    body, data = Body(store.pool), random.randbytes(4 << 20)
    await body.take(len(data))
    body.add(data)
    await body.spill()

    def content() -> bytes:
        return b"".join(part for each in body.chunks for part in each.parts())  # type: ignore[union-attr]

    assert set(await asyncio.gather(*[asyncio.to_thread(content) for _ in range(4)])) == {data}

    rest = aiter(body)
    await anext(rest)
    [file] = body.files
    body.clear()  # The request was cancelled, but a thread still reads for it.
    async with asyncio.timeout(PATIENCE):
        while file.read(0, 1):
            await asyncio.sleep(0)
    assert [chunk async for chunk in rest] == []


async def test_a_request_does_not_wait_for_others_without_a_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "REQUEST_SECONDS", 0.1)
    for _ in range(READERS):
        await store.pool.reading.acquire()
    body = Body(store.pool)
    await body.take(1)
    body.add(b"1")
    await body.spill()
    with pytest.raises(BucketError):
        await asyncio.wait_for(body.send("put_object", "key"), PATIENCE)
    body.clear()


@pytest.mark.bound("14.3")
@pytest.mark.parametrize("is_full", [False, True])
async def test_an_upload_without_memory_and_disk_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """The last bytes of the disk are for the records."""
    monkeypatch.setattr(pools, "WAIT_SECONDS", 0.001)
    if is_full:
        usage = type(shutil.disk_usage("/"))(1 << 40, (1 << 40) - (200 << 20), 200 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/missing")
    await store.pool.take(256 << 20)
    async with store.writer() as writer:
        await writer.write(bytes(SMALL))
        with pytest.raises(Problem) as refused:
            await writer.write(b"1")
        store.pool.give(256 << 20)

    assert refused.value.status_code == 503
    assert refused.value.headers == {"Retry-After": "10"}


@pytest.mark.parametrize("is_longer", [False, True])
@pytest.mark.parametrize("expected", [0, 1 << 30, 43 << 30, 50 << 30, 5 << 40])
def test_the_largest_object_fits_into_the_numbers(expected: int, is_longer: bool) -> None:
    """Amazon S3: 10,000 parts, of 5 MiB to 5 GiB, and 5 TiB (now 48.8 TiB) for all.

    With more bytes than expected, 2 TiB fit.
    """
    parts = Multipart(None, "key", {}, expected)  # type: ignore[arg-type]
    sizes: list[int] = []
    size = (2 << 40 if is_longer else expected) or 5 << 40
    while parts.size < size:
        sizes.append(parts.part_size)
        parts.size += sizes[-1]
        parts._number += 1

    assert len(sizes) <= 10_000
    assert all(MIN_PART <= size <= 5 << 30 for size in sizes)
    if expected and not is_longer:
        assert len(set(sizes)) == 1  # Some servers require that.
        assert sizes[0] <= max(MIN_PART, expected / 8_900 + (1 << 20))
