"""A store in a bucket, which several processes may share.

    files/{id}        the bytes of a file       catalogue/   the records, as a log of changes
    quarantine/{id}   a file that was refused   process      who uses the bucket

A file is complete when its record is in the log, which is the last step: an object without a record
is invisible, and the sweep removes it if no process works on it.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

from ...kernel.kernel import Measure
from ...kernel.problem import Problem
from ...kernel.threads import complete, in_thread, repeating
from ...objects.bucket import Bucket, BucketError
from ...objects.leases import Lease, Leases, open_leases
from ..base import BaseStorage
from ..interface import Callbacks, Tap, Writer
from ..place import UNAVAILABLE, unavailable
from ..records import Draft, FileRecord, checked_id, new_id
from ..settings import StorageSettings
from .catalogue import SharedCatalogue
from .reading import S3File
from .sweep import Sweep
from .writer import Multipart, S3Pool, S3Writer

#: Seconds between two looks at the changes of other processes.
POLL_SECONDS = 0.5
#: Small files that are read at the same time.
READERS = 16
#: Bytes of one copy within S3, which accepts up to 5 GiB.
COPIED = 1 << 30

logger = logging.getLogger(__name__)


class S3Place:
    """Whether the bucket can be used: whether the last request has succeeded."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._is_up = True

    def is_up(self) -> bool:
        return self._is_up

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
            if isinstance(error, BucketError) and self._is_up:
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
        self._sweep = Sweep(self)

    def prepare(self, umask: int) -> None:
        """Do nothing: the permissions are those of the bucket."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        redis_url, bucket = self._settings.redis_url, self.bucket
        self.catalogue.is_shared = redis_url is not None
        async with (
            bucket.connected() as client,
            open_leases(redis_url, bucket.key(bucket.name), UNAVAILABLE) as self.leases,
            repeating(POLL_SECONDS, self._poll),
        ):
            self.pool = S3Pool(client, bucket, self._settings.max_buffered)
            yield
            await self._settle()

    async def _poll(self) -> None:
        with suppress(Problem):
            await self.catalogue.refresh()

    def key(self, file_id: str) -> str:
        """Return the key of the bytes of a file, which may be incomplete."""
        return self.bucket.key("files", checked_id(file_id))

    def multipart(self, draft: Draft, file_id: str, **state: Any) -> Multipart:
        """Return the parts of a file; `state` are further arguments of Multipart."""
        about = {"ContentType": draft.content_type}
        return Multipart(self.pool, self.key(file_id), about, **state)

    @asynccontextmanager
    async def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0
    ) -> AsyncGenerator[S3Writer]:
        self.check_owner(draft)
        await self.check_quota(draft.owner, size)
        async with self.leased(file_id := new_id()):
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
            if lease is not None:
                await complete(lease.release())

    def _written(self, writer: Writer) -> AsyncGenerator[bytes]:
        return self.read(writer.id, 0, writer.size)

    async def _quarantine(self, writer: Writer) -> None:
        kept = self.bucket.key("quarantine", writer.id)
        about = {"ContentType": writer.draft.content_type}
        parts = Multipart(self.pool, kept, about)
        with self.place.guarding():
            for start in range(0, writer.size, COPIED):
                await parts.copy(self.key(writer.id), start, min(start + COPIED, writer.size))
            await (parts.complete() if writer.size else parts.put(Body()))

    async def _publish(self, writer: Writer, record: FileRecord) -> None:
        await self.adopt(record)

    async def _undo(self, writer: S3Writer) -> None:
        """Remove what was written, and the record that may have been added.

        A failure is logged, and the sweep tries again.
        """
        try:
            with self.place.guarding():
                if writer.is_finished:
                    # Also if it is unknown whether the record is in the log.
                    await in_thread(self.threads, self.catalogue.ban, [writer.id])
                await writer.multipart.remove()
        except Problem as problem:
            logger.warning("%s cannot be cleaned up now: %s", writer.id, problem.__cause__)
