"""Unfinished uploads under test, without the service."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage import Draft, FileRecord
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.engine.storage.partials import Partial, open_partials
from {{cookiecutter.package_name}}.engine.storage.s3.writer import MIN_PART
from {{cookiecutter.package_name}}.engine.storage.settings import StorageSettings

from .servers import client

PART = MIN_PART
#: The parts of a test differ, and each of their bytes from its neighbours.
DATA = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(4 * PART // 32))


class Uploads:
    """The uploads of one process, and the bucket."""

    def __init__(self, storage: Any, url: str, endpoint_url: str) -> None:
        self.storage = storage
        self.partials: Any = open_partials(storage, 4)
        self.s3 = client(endpoint_url)
        self.bucket, _, self.prefix = url.removeprefix("s3://").partition("/")

    async def new(self, length: int | None = None, **state: Any) -> Partial:
        partial = Partial(draft=Draft(filename="f", owner="ö"), length=length, **state)
        await self.partials.add(partial)
        return partial

    async def size(self, partial: Partial) -> int:
        found = await self.partials.received([partial.id])
        return int(found[partial.id].size)

    async def append(self, partial: Partial, data: bytes, step: int = 256 << 10) -> int:
        """Append bytes in a request of their own, and return the new size."""
        async with self.partials.claimed(partial.id) as hold:
            assert hold
            size = await self.size(partial)
            async with self.partials.open(partial, size) as writer:
                for start in range(0, len(data), step):
                    await writer.write(data[start : start + step])
                await writer.flush()
                written = writer.written
        assert written == size + len(data)
        return int(written)

    async def commit(self, partial: Partial) -> FileRecord:
        async with self.partials.claimed(partial.id) as hold:
            assert hold
            async with self.partials.open(partial, await self.size(partial)) as writer:
                record: FileRecord = await self.storage.commit(writer)
        return record

    async def content(self, partial: Partial) -> bytes:
        size = (await self.storage.record(partial.id)).size
        return b"".join([chunk async for chunk in self.storage.read(partial.id, 0, size)])

    def keys(self, folder: str = "") -> list[str]:
        prefix = f"{self.prefix}/{folder}"
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return [each["Key"].removeprefix(prefix) for each in found]

    def multiparts(self) -> list[tuple[str, str]]:
        """Return the keys and ids of the multipart uploads."""
        found = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        return [(each["Key"], each["UploadId"]) for each in found.get("Uploads", [])]

    def send_part(self, number: int, data: bytes) -> None:
        """Send a part of the only multipart upload."""
        [(key, upload_id)] = self.multiparts()
        self.s3.upload_part(
            Bucket=self.bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data
        )

    def send_piece(self, partial: Partial, offset: int, fence: int, data: bytes) -> None:
        key = f"{self.prefix}/pieces/{partial.id}/{offset:016d}.{fence:016d}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)


class Opened:
    """Opens the uploads of processes that share a bucket."""

    def __init__(self, stack: AsyncExitStack, url: str, endpoint_url: str) -> None:
        self._stack, self.url, self._endpoint_url = stack, url, endpoint_url

    async def __call__(self, endpoint_url: str | None = None, **settings: Any) -> Uploads:
        through = endpoint_url or self._endpoint_url
        made = StorageSettings(url=self.url, endpoint_url=through, **settings)
        storage = await self._stack.enter_async_context(open_storage(made))
        return Uploads(storage, self.url, self._endpoint_url)


@pytest.fixture
async def opened(bucket_url: str, endpoint_url: str) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:
        yield Opened(stack, bucket_url, endpoint_url)


@pytest.fixture
async def uploads(opened: Opened) -> Uploads:
    return await opened()
