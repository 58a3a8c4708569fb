"""The common part of the stores of a directory and of a bucket: records, quotas, callbacks."""

import asyncio
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, TypeVar

from ..kernel.kernel import BOUNDS, Measure
from ..kernel.problem import Problem, ProblemType
from ..kernel.threads import complete, notify
from .catalogue import Catalogue, Place
from .interface import Callbacks, OpenFile, Tap, Writer
from .records import Draft, FileRecord, checked_id, not_found
from .settings import StorageSettings

T = TypeVar("T")
THREADS = 16
#: Records per query of a listing.
PAGE = 500
#: Seconds that the shutdown waits for cancelled writers.
CLOSE_SECONDS = 5.0

QUOTA = ProblemType(
    "quota-exceeded",
    "The quota is exceeded",
    "All files of one owner together may have at most `limit` bytes, and this file would exceed the"
    " limit. Delete other files first.",
)

TOO_MANY_FILES = ProblemType(
    "too-many-files",
    "You have too many files",
    "One owner may have at most `limit` files, including uploads that are unfinished. Delete other"
    " files first.",
)


class BaseStorage(ABC):
    """A store with a catalogue."""

    catalogue: Catalogue
    place: Place
    #: The module of the store's unfinished uploads, relative to this package.
    partials_module: ClassVar[str]
    #: The type of the writers that `create` yields.
    writer_type: ClassVar[type[Any]]

    def __init__(self, settings: StorageSettings, callbacks: Sequence[Callbacks]) -> None:
        """Raises ValueError when several callbacks inspect files."""
        if len([each for each in callbacks if each.inspect]) > 1:
            raise ValueError("only one of the callbacks may have an `inspect`")
        self.callbacks = callbacks
        self.quota, self.max_files = settings.quota, settings.max_files_per_owner
        #: Whether every file must have an owner.
        self.has_owners = False
        #: For work on files that blocks, and on their bytes.
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")
        self._quota_turn = asyncio.Lock()
        self._announcing: set[str] = set()
        self._working: set[asyncio.Future[None]] = set()

    @abstractmethod
    def prepare(self, umask: int) -> None:
        """Remove permissions that the umask denies, and note for workers that the store exists.

        Blocking.
        """

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep connections open while the store is in use."""
        yield

    @abstractmethod
    def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0, file_id: str | None = None
    ) -> AbstractAsyncContextManager[Writer]:
        """Begin a file; see `Storage`. A file that comes from another store has an id."""

    @abstractmethod
    def open(self, record: FileRecord) -> AbstractAsyncContextManager[OpenFile]:
        """Open a file; see `Storage`."""

    @abstractmethod
    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield some bytes of a file; see `Storage`."""

    @abstractmethod
    async def read_small(self, files: Sequence[tuple[str, int]]) -> list[bytes]:
        """Return the bytes of small files; see `Storage`."""

    @abstractmethod
    async def recover(self) -> None:
        """Finish or undo the work of writers that died."""

    @abstractmethod
    async def sweep(self) -> None:
        """Remove files of writers that died; files of running writers are not touched."""

    @abstractmethod
    async def look(self) -> None:
        """Find out whether the store can be used; called every LOOK_SECONDS."""

    def measures(self) -> list[Measure]:
        """Return the metrics of the store."""
        help_, counts = "Files by event: stored or removed.", self.catalogue.counts
        return [Measure("storage_files", help_, "counter", lambda: counts, "event")]

    async def close(self) -> None:
        """Close the store after cancelled writers have cleaned up."""
        await self._settle()
        await self.catalogue.close()
        self.threads.shutdown(wait=False)

    async def _settle(self) -> None:
        if self._working:
            await asyncio.wait(self._working, timeout=CLOSE_SECONDS)

    async def commit(self, writer: Writer, digest: dict[str, str] | None = None) -> FileRecord:
        if not isinstance(writer, self.writer_type):
            raise TypeError("the writer belongs to another store")
        await writer.finish()
        record = FileRecord(
            **writer.draft.model_dump(),
            id=writer.id,
            size=writer.size,
            created_at=datetime.now(UTC),
            digest=digest,
        )
        inspect = next(filter(None, (each.inspect for each in self.callbacks)), None)
        with self.place.guarding():
            if inspect is not None:
                await self._inspect(inspect, record, writer)
            # One at a time, so that two files cannot both take the rest of a quota.
            async with self._quota_turn if self.quota or self.max_files else nullcontext():
                await self.check_owner(record.owner, record.size)
                # This must not stop half-way: a moved file without a record would lose its digest.
                await complete(self._publish(writer, record))
        writer.committed = True
        await self._announce(record)
        return record

    async def _inspect(
        self,
        inspect: Callable[[FileRecord, AsyncIterator[bytes]], Awaitable[None]],
        record: FileRecord,
        writer: Writer,
    ) -> None:
        """Call `inspect`; move the file to the quarantine if it is refused."""
        try:
            async with aclosing(self._written(writer)) as chunks:
                await inspect(record, chunks)
        except Problem as problem:
            if problem.status_code < 500:  # Otherwise the inspection itself failed.
                await self._quarantine(writer)
            raise

    async def _publish(self, writer: Writer, record: FileRecord) -> None:
        await self.make_durable(writer)
        await self.adopt(record)

    @abstractmethod
    def _written(self, writer: Any) -> AsyncGenerator[bytes]:
        """Yield the bytes of a finished writer."""

    @abstractmethod
    async def _quarantine(self, writer: Any) -> None:
        """Keep the bytes of a finished writer where no client sees them."""

    @abstractmethod
    async def make_durable(self, writer: Any) -> None:
        """Make the bytes of a finished writer durable under their final name."""

    async def check_owner(self, owner: str | None, size: int, files: int = 1) -> None:
        """Raise Problem 413 when more files, with `size` bytes together, exceed an owner's limits.

        They are exact within a process, and approximate between several. Raise ValueError without
        an owner if the files of the service have one.
        """
        if self.has_owners and not owner:
            raise ValueError("the file needs an owner: Draft(..., owner=principal.id)")
        quota, most = self.quota, self.max_files
        if not (quota or most):
            return
        stored, stored_bytes = await self.catalogue.stored_by(owner)
        if most and stored + files > most:
            BOUNDS["storage.max_files_per_owner"] += 1
            detail = f"You may have at most {most} files."
            raise Problem(413, detail, type=TOO_MANY_FILES, limit=most)
        if quota and stored_bytes + size > quota:
            detail = f"All files together may have at most {quota} bytes."
            raise Problem(413, detail, type=QUOTA, limit=quota)

    async def adopt(self, record: FileRecord) -> None:
        """Add the record of a file whose bytes are durable under their final name."""
        announced = not any(each.on_stored for each in self.callbacks)
        await self.catalogue.add(record, announced=announced)

    async def _announce(self, record: FileRecord) -> None:
        """Call `on_stored`; if it fails, the sweep calls it again."""
        functions = [each.on_stored for each in self.callbacks if each.on_stored]
        if not functions or record.id in self._announcing:
            return
        self._announcing.add(record.id)
        try:
            if await notify(functions, record.id, record):
                with suppress(sqlite3.OperationalError, Problem):  # Then it is called once more.
                    await self.catalogue.confirm(record.id)
        finally:
            self._announcing.discard(record.id)

    @contextmanager
    def working(self) -> Generator[None]:
        """Keep the store open until the block has ended, for at most CLOSE_SECONDS."""
        done = asyncio.get_running_loop().create_future()
        self._working.add(done)
        try:
            yield
        finally:
            self._working.discard(done)
            done.set_result(None)

    async def record(self, file_id: str) -> FileRecord:
        record = await self.catalogue.get(checked_id(file_id))
        if record is None:
            raise not_found()
        return record

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        return await self.catalogue.find(file_ids)

    async def presigned(self, record: FileRecord, headers: Mapping[str, str]) -> str | None:
        return None

    async def keep_crc32(self, values: Mapping[str, int]) -> None:
        with suppress(sqlite3.OperationalError, Problem):  # It is computed again next time.
            await self.catalogue.keep_crc32(values)

    async def records(
        self, after: int = 0, limit: int | None = None, owner: str | None = None
    ) -> AsyncGenerator[tuple[int, FileRecord]]:
        remaining = sys.maxsize if limit is None else limit
        while page := await self.catalogue.page(after, min(PAGE, remaining), owner):
            for after, record in page:
                yield after, record
            remaining -= len(page)

    async def delete(self, file_id: str) -> None:
        removed = await self.freeing(partial(self._delete, file_id))
        if removed is None:
            raise not_found()
        await notify([each.on_deleted for each in self.callbacks], file_id, removed)

    @abstractmethod
    async def _delete(self, file_id: str) -> FileRecord | None:
        """Remove a file; return its record, or None if there is none; raises Problem 404."""

    async def freeing(self, deletion: Callable[[], Awaitable[T]]) -> T:
        """Run a deletion, which may use what a full disk has in reserve."""
        return await deletion()

    async def _announce_again(
        self, claiming: Callable[[str], AbstractAsyncContextManager[object]]
    ) -> None:
        """Call `on_stored` for the files for which it has failed.

        A file whose claim cannot be taken has an upload or a process that is about to announce it.
        """
        if not any(each.on_stored for each in self.callbacks):
            return
        for file_id in await self.catalogue.unannounced():
            async with claiming(file_id) as claim:
                if claim and (record := await self.catalogue.get(file_id)):
                    await self._announce(record)
