"""Files in a directory, records in a catalogue.

    parts/{id}.part   bytes on their way in       files/{xx}/{id}     complete bytes
    parts/{id}.lock   the claim of who works      catalogue.sqlite3   the records

A file is complete when its record is committed, and that comes last: fsync(file), rename,
fsync(directory), commit, then the answer. Whatever a crash leaves between two of these steps lies
under an unlocked claim, so recovery looks at `parts/` alone, however many files there are.
"""

import asyncio
import errno
import logging
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiofiles
import aiofiles.os
from aiofiles.threadpool.binary import AsyncFileIO

from ..settings import StorageSettings
from ..streaming import Problem, complete, in_thread
from .catalogue import Catalogue
from .claims import Claim
from .interface import Storage, Tap
from .records import Draft, FileRecord, checked_id, is_id, new_id, not_found

logger = logging.getLogger(__name__)

#: Bytes per write and per read: large enough that the thread hop costs little per byte.
WRITE_SIZE = 1 << 20
READ_SIZE = 256 << 10
THREADS = 16
PAGE = 500


@asynccontextmanager
async def open_storage(settings: StorageSettings) -> AsyncGenerator[Storage]:
    """Open the store that the settings name, recover what a crash left, and keep sweeping."""
    storage = LocalStorage(Path(settings.url.removeprefix("file://").removeprefix("file:")))
    await storage.sweep()
    sweeper = asyncio.create_task(_sweep_every(settings.sweep_interval, storage))
    try:
        yield storage
    finally:
        sweeper.cancel()
        await storage.close()


async def _sweep_every(interval: float, storage: Storage) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            await storage.sweep()
        except Exception:
            logger.exception("The sweep failed; the next one is in %s s", interval)


class LocalStorage:
    """The store of one directory; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self._files = root / "files"
        self._parts = root / "parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self._files / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        self._catalogue = Catalogue(root / "catalogue.sqlite3")
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")
        self._writing: set[asyncio.Future[None]] = set()

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file are; the last bits of an id are random and spread them."""
        return self._files / file_id[-2:] / checked_id(file_id)

    @asynccontextmanager
    async def create(self, draft: Draft, tap: Tap | None = None) -> AsyncGenerator["LocalWriter"]:
        with _no_space():
            file_id, claim = await self._claim_new()
        part = self._parts / f"{file_id}.part"
        done = asyncio.get_running_loop().create_future()
        self._writing.add(done)
        try:
            with _no_space():
                file = await complete(aiofiles.open(part, "xb", buffering=0, executor=self.threads))
            writer = LocalWriter(self, file_id, draft, part, file, tap)
            try:
                yield writer
            finally:
                await complete(file.close())
        finally:
            try:
                await complete(self._reconcile(file_id, claim))
            finally:
                self._writing.discard(done)
                done.set_result(None)

    async def publish(self, part: Path, record: FileRecord) -> None:
        """Give a synced part its final name, then its record."""
        await in_thread(self.threads, _move_durably, part, self.path(record.id))
        await self._catalogue.add(record)

    async def record(self, file_id: str) -> FileRecord:
        record = await self._catalogue.get(checked_id(file_id))
        if record is None:
            raise not_found()
        return record

    async def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        path = self.path(file_id)
        try:
            file = await aiofiles.open(path, "rb", buffering=0, executor=self.threads)
        except FileNotFoundError:
            raise not_found() from None
        try:
            await complete(file.seek(start))
            while start < stop:
                chunk = await complete(file.read(min(READ_SIZE, stop - start)))
                if not chunk:
                    raise OSError(errno.EIO, "a stored file is shorter than its record")
                start += len(chunk)
                yield chunk
        finally:
            await complete(file.close())

    async def records(
        self, after: int = 0, limit: int | None = None
    ) -> AsyncGenerator[tuple[int, FileRecord]]:
        remaining = sys.maxsize if limit is None else limit
        while page := await self._catalogue.page(after, min(PAGE, remaining)):
            for after, record in page:
                yield after, record
            remaining -= len(page)

    async def delete(self, file_id: str) -> None:
        lock = self._lock_path(checked_id(file_id))
        while (claim := await in_thread(self.threads, Claim.take, lock)) is None:
            await self.record(file_id)  # Somebody sweeps, or removes it: then this says 404.
            await asyncio.sleep(0.01)
        removed = False
        try:
            removed = await complete(self._remove(file_id))
        finally:
            await complete(self._reconcile(file_id, claim))
        if not removed:
            raise not_found()

    async def _remove(self, file_id: str) -> bool:
        try:
            return await self._catalogue.remove(file_id)
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise
            # A full disk has no room even for this. The bytes make it; should the process die now,
            # the claim remains, and the record goes when that is reconciled.
            await in_thread(self.threads, self.path(file_id).unlink, missing_ok=True)
            return await self._catalogue.remove(file_id)

    async def sweep(self) -> None:
        names = await aiofiles.os.listdir(self._parts, executor=self.threads)
        for file_id in sorted(filter(is_id, {name.partition(".")[0] for name in names})):
            claim = await in_thread(self.threads, Claim.take, self._lock_path(file_id))
            if claim is not None:
                await complete(self._reconcile(file_id, claim))

    async def close(self) -> None:
        """Wait for writers that are being cancelled to clean up, then close."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=2)
        await self._catalogue.close()
        self.threads.shutdown(wait=False)

    async def _claim_new(self) -> tuple[str, Claim]:
        while True:
            file_id = new_id()
            claim = await in_thread(self.threads, Claim.take, self._lock_path(file_id))
            if claim is not None:
                return file_id, claim

    async def _reconcile(self, file_id: str, claim: Claim) -> None:
        """Make files and catalogue agree, no record without bytes or the reverse; end the claim."""
        paths = [self._parts / f"{file_id}.part"]
        try:
            if await self._catalogue.get(file_id) is None:
                paths.append(self.path(file_id))
            elif not await aiofiles.os.path.exists(self.path(file_id), executor=self.threads):
                await self._catalogue.remove(file_id)
            await in_thread(self.threads, _remove, paths)
        except BaseException:
            claim.abandon()
            raise
        await in_thread(self.threads, claim.release)

    def _lock_path(self, file_id: str) -> Path:
        return self._parts / f"{file_id}.lock"


class LocalWriter:
    """Collects chunks and writes them in large blocks, in a thread."""

    def __init__(
        self,
        storage: LocalStorage,
        file_id: str,
        draft: Draft,
        part: Path,
        file: AsyncFileIO,
        tap: Tap | None,
    ) -> None:
        self.id = file_id
        self.size = 0
        self._storage = storage
        self._draft = draft
        self._part = part
        self._file = file
        self._tap = tap
        self._block = bytearray()

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        self._block += data
        if len(self._block) >= WRITE_SIZE:
            await self.flush()

    async def flush(self) -> None:
        if not self._block:
            return
        block, self._block = self._block, bytearray()
        with _no_space():
            await in_thread(self._storage.threads, _write, self._file.fileno(), block, self._tap)

    async def commit(self, digest: dict[str, str] | None = None) -> FileRecord:
        await self.flush()
        record = FileRecord(
            **self._draft.model_dump(),
            id=self.id,
            size=self.size,
            created_at=datetime.now(UTC),
            digest=digest,
        )
        with _no_space():
            await in_thread(self._storage.threads, os.fsync, self._file.fileno())
            # Once begun it goes to its end: a record must never be without its bytes.
            await complete(self._storage.publish(self._part, record))
        return record


@contextmanager
def _no_space() -> Generator[None]:
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if _is_full(error):
            raise Problem(507, "There is not enough space to store the file.") from error
        raise


def _is_full(error: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL


def _write(descriptor: int, block: bytearray, tap: Tap | None) -> None:
    if tap is not None:
        tap(block)
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _move_durably(part: Path, final: Path) -> None:
    part.replace(final)
    if sys.platform != "win32":  # Windows opens no directory, and its rename is in the journal.
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
