"""A store in a bucket, which several processes may share.

    files/{id}        the bytes of a file       catalogue/   the records, as a log of changes
    quarantine/{id}   a file that was refused   process      who uses the bucket

A file is complete when its record is in the log, which is the last step: an object without a record
is invisible, and the sweep removes it if no process works on it.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import quote

from ...kernel.kernel import Measure
from ...kernel.problem import Problem
from ...kernel.threads import complete, in_thread, repeating
from ...objects.bucket import Bucket, BucketError
from ...objects.guard import guarded
from ...objects.leases import Lease, Leases, open_leases
from ..base import BaseStorage
from ..interface import Callbacks, Tap, Writer
from ..place import UNAVAILABLE, unavailable
from ..records import MAX_TYPE, Draft, FileRecord, checked_id, new_id
from ..settings import StorageSettings
from .body import Body
from .catalogue import SharedCatalogue
from .pool import Refused, S3Pool
from .reading import S3File
from .sweep import Sweep
from .writer import Multipart, S3Writer

#: Seconds between two looks at the changes of other processes.
POLL_SECONDS = 0.5
#: Small files that are read at the same time.
READERS = 16
#: Seconds in which a client can begin to download from a URL of S3.
PRESIGNED_SECONDS = 300
#: Bytes of one copy within S3, which accepts up to 5 GiB.
COPIED = 1 << 30

logger = logging.getLogger(__name__)


class S3Place:
    """Whether the bucket can be used: whether the last request has succeeded."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._is_up = True
        #: Whether the leases can be used, too.
        self.is_coordinated: Callable[[], bool] = lambda: True

    def is_up(self) -> bool:
        return self._is_up and self.is_coordinated()

    def check(self) -> None:
        """Do nothing: a bucket cannot be moved."""

    def check_space(self, size: int = 0) -> None:
        """Do nothing: the space is not limited."""

    @contextmanager
    def guarding(self) -> Generator[None]:
        """Turn errors of the bucket, and of the copy of the records, into Problem 503."""
        try:
            yield
        except (BucketError, sqlite3.DatabaseError) as error:
            # A refusal is about one object.
            if isinstance(error, BucketError) and not isinstance(error, Refused) and self._is_up:
                self._is_up = False
                logger.error("The storage cannot be used: %s", error)
            raise unavailable() from error

    def look(self) -> None:
        """Try to write after a request has failed; blocking."""
        if not self._is_up:
            with suppress(BucketError):
                self._bucket.put(self._bucket.key("probe"), b"")
                self._is_up = True
                logger.warning("The storage can be used again")


class S3Storage(BaseStorage):
    """The store of one bucket, or of a prefix in it."""

    catalogue: SharedCatalogue
    place: S3Place
    partials_module = ".s3.partials"
    writer_type = S3Writer
    #: The client and the leases, while the store is `running`.
    pool: S3Pool
    leases: Leases

    def __init__(self, settings: StorageSettings, callbacks: Sequence[Callbacks] = ()) -> None:
        """Load the records; blocking. Raises OSError in one line."""
        super().__init__(settings, callbacks)
        self._settings = settings
        self.bucket = Bucket(settings.url, settings.endpoint_url)
        self.place = S3Place(self.bucket)
        self.catalogue = SharedCatalogue(self.bucket, self.place)
        self._reading = asyncio.Semaphore(READERS)

    def prepare(self, umask: int) -> None:
        """Do nothing: the permissions are those of the bucket."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        redis_url, bucket = self._settings.redis_url, self.bucket
        self.catalogue.is_shared = redis_url is not None
        async with (
            bucket.connected() as client,
            open_leases(redis_url, bucket.key(bucket.name), UNAVAILABLE) as self.leases,
            guarded(bucket, self.leases),
            repeating(POLL_SECONDS, self._poll),
        ):
            leases = self.leases
            self.place.is_coordinated = lambda: leases.is_up and leases.is_guarded()
            self.pool = S3Pool(client, bucket, self._settings.max_buffered)
            self._sweep = Sweep(self.pool, self.catalogue, self.leased)
            try:
                yield
            finally:
                await self._settle()

    async def _poll(self) -> None:
        with suppress(Problem):
            await self.catalogue.refresh()

    def key(self, file_id: str) -> str:
        """Return the key of the bytes of a file, which may be incomplete."""
        return self.bucket.key("files", checked_id(file_id))

    def multipart(self, draft: Draft, file_id: str, **state: Any) -> Multipart:
        """Return the parts of a file; `state` are further arguments of Multipart."""
        return Multipart(self.pool, self.key(file_id), _about(draft), **state)

    @asynccontextmanager
    async def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0, file_id: str | None = None
    ) -> AsyncGenerator[S3Writer]:
        await self.check_owner(draft.owner, size)
        async with self.leased(file_id := file_id or new_id()):
            parts = self.multipart(draft, file_id, expected=size)
            writer = S3Writer(file_id, draft, parts, self.place, self.callbacks, tap)
            with self.working():
                try:
                    try:
                        yield writer
                    finally:
                        await complete(writer.close())
                finally:
                    if not writer.committed:
                        await complete(self._undo(writer))

    @asynccontextmanager
    async def leased(self, file_id: str) -> AsyncGenerator[Lease | None]:
        """Take the lease of a file while the block runs; yield None if another process has it."""
        lease = await self.leases.take(file_id)
        try:
            yield lease
        finally:
            if lease is not None:  # The next holder of an upload excludes the last one.
                await complete(lease.release(is_clean=not lease.taken_over))

    def _written(self, writer: Writer) -> AsyncGenerator[bytes]:
        return self.read(writer.id, 0, writer.size)

    async def _quarantine(self, writer: Writer) -> None:
        kept = self.bucket.key("quarantine", writer.id)
        parts = Multipart(self.pool, kept, _about(writer.draft))
        with self.place.guarding():
            for start in range(0, writer.size, COPIED):
                await parts.copy(self.key(writer.id), start, min(start + COPIED, writer.size))
            await (parts.complete() if writer.size else parts.put(Body(self.pool)))

    async def make_durable(self, writer: S3Writer) -> None:
        """Note that a record may be added, since `finish` has done the rest."""
        writer.is_published = True

    async def _undo(self, writer: S3Writer) -> None:
        """Remove the written bytes; a failure is logged, and the sweep tries again."""
        try:
            if writer.is_published:  # It may be unknown whether the record was added.
                await self.catalogue.withdraw(writer.id)
            with self.place.guarding():
                await writer.multipart.remove()
        except Problem as problem:
            logger.warning("%s cannot be cleaned up now: %s", writer.id, problem.__cause__)

    async def record(self, file_id: str) -> FileRecord:
        if await self.catalogue.get(checked_id(file_id)) is None:
            await self.catalogue.refresh()
        return await super().record(file_id)

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        found = await super().find(file_ids)
        if missing := [file_id for file_id in file_ids if file_id not in found]:
            await self.catalogue.refresh()
            found |= await super().find(missing)
        return found

    async def records(
        self, after: int = 0, limit: int | None = None, owner: str | None = None
    ) -> AsyncGenerator[tuple[int, FileRecord]]:
        await self.catalogue.refresh()
        async with aclosing(super().records(after, limit, owner)) as records:
            async for each in records:
                yield each

    @asynccontextmanager
    async def open(self, record: FileRecord) -> AsyncGenerator[S3File]:
        yield S3File(self.pool, self.key(record.id), record.size)

    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        return S3File(self.pool, self.key(file_id)).parts(start, stop)

    def read_key(self, key: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the bytes of an object that is no file; raises Problem 404 and 503."""
        return S3File(self.pool, key).parts(0, size)

    async def read_small(self, files: Sequence[tuple[str, int]]) -> list[bytes]:
        async def read(file_id: str, size: int) -> bytes:
            async with self._reading, aclosing(self.read(file_id, 0, size)) as chunks:
                return b"".join([chunk async for chunk in chunks])

        reading = [read(*each) for each in files]
        found = await asyncio.gather(*reading, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return [each for each in found if isinstance(each, bytes)]

    async def _delete(self, file_id: str) -> FileRecord | None:
        await self.record(file_id)
        return await complete(self._remove(file_id))

    async def _remove(self, file_id: str) -> FileRecord | None:
        # The record goes first. If the bytes remain, the sweep removes them.
        removed = await self.catalogue.remove(file_id)
        if removed is not None:
            try:
                await self.pool.ask("delete_object", self.key(file_id))
                self._sweep.removed.append(file_id)
            except BucketError as error:
                logger.warning("The bytes of %s cannot be removed now: %s", file_id, error)
        return removed

    async def presigned(self, record: FileRecord, headers: Mapping[str, str]) -> str:
        """Return a URL of S3 that sends a file with these headers for PRESIGNED_SECONDS."""
        values = {
            "Bucket": self.bucket.name,
            "Key": self.key(record.id),
            "ResponseContentType": headers["Content-Type"],
            "ResponseContentDisposition": headers["Content-Disposition"],
            "ResponseCacheControl": headers["Cache-Control"],
        }
        with self.place.guarding(), self.bucket.errors():
            url: str = await self.pool.client.generate_presigned_url(
                "get_object", Params=values, ExpiresIn=PRESIGNED_SECONDS
            )
        return url

    async def recover(self) -> None:
        """Do nothing: the sweep finds out what processes have left that died."""

    async def sweep(self) -> None:
        if self.place.is_up():
            with self.place.guarding():
                await self._sweep.run()
            await self._announce_again(self.leased)

    async def look(self) -> None:
        await in_thread(self.threads, self.place.look)

    def measures(self) -> list[Measure]:
        help_, read = "Bytes received and not yet written.", lambda: self.pool.buffered
        return [*super().measures(), Measure("storage_buffered_bytes", help_, "sum", read)]

    async def close(self) -> None:
        await super().close()
        self.bucket.close()


def _about(draft: Draft) -> dict[str, Any]:
    """Return how an object describes itself, for people and tools; the record is what counts."""
    kind = draft.content_type if len(draft.content_type) <= MAX_TYPE else "binary/octet-stream"
    metadata = {"name": draft.filename, "owner": draft.owner or ""}
    return {
        "ContentType": kind if kind.isascii() and kind.isprintable() else "binary/octet-stream",
        "Metadata": {name: quote(value) for name, value in metadata.items() if value},
    }
