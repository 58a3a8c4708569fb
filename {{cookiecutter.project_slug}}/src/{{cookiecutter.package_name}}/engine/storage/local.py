"""Files in a directory, records in a catalogue.

    parts/{id}.part   bytes on their way in       files/{xx}/{id}     complete bytes
    parts/{id}.lock   the claim of who works      catalogue.sqlite3   the records, and the format

A file is complete when its record is committed, and that comes last: fsync(file), rename,
fsync(directory), commit, then the answer. Whatever a crash leaves between two of these steps lies
under an unlocked claim, so recovery looks at `parts/` alone, however many files there are.
"""

import asyncio
import logging
import os
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiofiles.os

from ..kernel.problem import Problem
from ..kernel.threads import complete, in_thread
from .callbacks import Callbacks
from .catalogue import Catalogue, check_format
from .claims import Claim, check_locks
from .interface import Tap
from .place import is_full
from .reading import LocalFile, OpenFiles, read_path
from .records import Draft, FileRecord, checked_id, is_id, not_found
from .room import Room
from .settings import StorageSettings
from .writer import LocalWriter, move_durably

THREADS = 16
#: Threads that copy blocks to the disk: each that runs takes a turn from the event loop.
WRITERS = min(4, os.cpu_count() or 1)
PAGE = 500
#: Files that stay open when they have been read.
OPEN_FILES = 512
#: How long the end of the service waits for writers that are being cancelled.
CLOSE_SECONDS = 5.0
#: How long a deletion waits for another task or process that works on the file.
CLAIM_SECONDS = 10.0

logger = logging.getLogger(__name__)


class LocalStorage:
    """The store of one directory; several processes may share it."""

    def __init__(self, settings: StorageSettings, callbacks: Callbacks) -> None:
        self.root = root = Path(settings.url.removeprefix("file://").removeprefix("file:"))
        check_format(root / "catalogue.sqlite3")
        self.callbacks = callbacks
        #: Bytes that writers have taken and not yet written.
        self.buffered = 0
        self._announcing: set[str] = set()
        self._files, self._parts = root / "files", root / "parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self._files / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        check_locks(self._parts)
        self.catalogue = Catalogue(root / "catalogue.sqlite3")
        self.place = self.catalogue.place
        self.place.watch(root, self._files, self._parts)
        self.room = Room(root, settings, self.catalogue)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._writing: set[asyncio.Future[None]] = set()
        self._open_files = OpenFiles(OPEN_FILES)

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file are; the last bits of an id are random and spread them."""
        return self._files / file_id[-2:] / checked_id(file_id)

    @asynccontextmanager
    async def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0
    ) -> AsyncGenerator[LocalWriter]:
        await self.room.check_quota(draft, size)
        with self.place.guarding():
            file_id, claim = await in_thread(self.threads, self._claim_new, size)
        part = self._parts / f"{file_id}.part"
        writer = None
        with self.working():
            try:
                with self.place.guarding():
                    opening = aiofiles.open(part, "x+b", buffering=0, executor=self.threads)
                    file = await complete(opening)
                writer = LocalWriter(self, file_id, draft, part, file, tap)
                try:
                    yield writer
                finally:
                    await complete(writer.close())
            finally:
                if writer is not None and writer.committed:
                    await in_thread(self.threads, claim.release)
                else:
                    await complete(self._reconcile(file_id, claim))

    @contextmanager
    def working(self) -> Generator[None]:
        """Let the store stay open until the block has ended, or for CLOSE_SECONDS."""
        done = asyncio.get_running_loop().create_future()
        self._writing.add(done)
        try:
            yield
        finally:
            self._writing.discard(done)
            done.set_result(None)

    async def inspect(self, record: FileRecord, part: Path) -> None:
        """Show a file to the callback that may refuse it; a refused one goes into quarantine."""
        if self.callbacks.inspect is None:
            return
        try:
            async with aclosing(read_path(part, 0, record.size, self.threads)) as chunks:
                await self.callbacks.inspect(record, chunks)
        except Problem as problem:
            if problem.status_code >= 500:
                raise  # Nothing was found out about the file.
            quarantine = self.root / "quarantine"
            await aiofiles.os.makedirs(quarantine, exist_ok=True, executor=self.threads)
            await in_thread(self.threads, part.replace, quarantine / record.id)
            raise

    async def publish(self, descriptor: int | None, part: Path, record: FileRecord) -> None:
        """Make an open part durable (a closed one is), give it its final name, then its record."""
        await in_thread(self.threads, move_durably, descriptor, part, self.path(record.id))
        await self.adopt(record)

    async def adopt(self, record: FileRecord) -> None:
        """Record a file whose bytes are durable under their final name."""
        await self.catalogue.add(record, announced=self.callbacks.on_stored is None)

    async def announce(self, record: FileRecord) -> None:
        """Call `on_stored`; until it has worked, the sweep calls it again."""
        if self.callbacks.on_stored is None or record.id in self._announcing:
            return
        self._announcing.add(record.id)
        try:
            if await self.callbacks.stored(record):
                with suppress(sqlite3.OperationalError):  # It will be called once more.
                    await self.catalogue.confirm(record.id)
        finally:
            self._announcing.discard(record.id)

    def release(self, size: int) -> None:
        """Say that `size` bytes are no longer held in memory."""
        self.buffered -= size

    async def record(self, file_id: str) -> FileRecord:
        if found := self._open_files.find(file_id):
            return found[0]
        record = await self.catalogue.get(checked_id(file_id))
        if record is None:
            raise not_found()
        return record

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        return await self.catalogue.find(file_ids)

    @asynccontextmanager
    async def open(self, record: FileRecord) -> AsyncGenerator[LocalFile]:
        if found := self._open_files.find(record.id):
            file = found[1]
        else:
            file = LocalFile(self.path(record.id), self.threads)
            try:
                await file.open()
            except Problem:
                await in_thread(self.threads, self.place.check)  # 503 when all are elsewhere.
                raise
            self._open_files.keep(record, file)
        file.readers += 1
        try:
            yield file
        finally:
            self._open_files.release(file)

    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        return read_path(self.path(file_id), start, stop, self.threads)

    async def records(
        self, after: int = 0, limit: int | None = None
    ) -> AsyncGenerator[tuple[int, FileRecord]]:
        remaining = sys.maxsize if limit is None else limit
        while page := await self.catalogue.page(after, min(PAGE, remaining)):
            for after, record in page:
                yield after, record
            remaining -= len(page)

    async def delete(self, file_id: str) -> None:
        await self.record(file_id)  # Without one there may be an upload that is about to get it.
        give_up_at = time.monotonic() + CLAIM_SECONDS
        removed, lock = None, self._lock_path(file_id)
        with self.place.guarding():  # A record that does not fit stays until the next sweep.
            while (claim := await Claim.take_in_thread(self.threads, lock)) is None:
                await self.record(file_id)  # Raises 404 if another task has deleted it.
                if time.monotonic() > give_up_at:
                    raise Problem(503, "The file is in use now.", headers={"Retry-After": "10"})
                await asyncio.sleep(0.01)
            try:
                self._open_files.forget(file_id)  # Its blocks are free only then.
                removed = await complete(self._remove(file_id))
            finally:
                await complete(self._reconcile(file_id, claim))
                self._open_files.forget(file_id)  # Somebody may have read it meanwhile.
        if removed is None:
            raise not_found()
        await self.callbacks.deleted(removed)

    async def _remove(self, file_id: str) -> FileRecord | None:
        try:
            return await self.catalogue.remove(file_id)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            # A full disk has no room even for this. The bytes make it; should the process die now,
            # the claim remains, and the record goes when that is reconciled.
            await in_thread(self.threads, self.path(file_id).unlink, missing_ok=True)
            return await self.catalogue.remove(file_id)

    async def sweep(self) -> None:
        self._open_files.sweep()
        if not await in_thread(self.threads, self.place.look, write=True):
            return  # What lies there is of another store.
        await self.recover()
        if self.callbacks.on_stored:
            await self._announce_again()

    async def look(self) -> None:
        await in_thread(self.threads, self.place.look)

    async def recover(self) -> None:
        """Put right what dead writers left behind."""
        names = await aiofiles.os.listdir(self._parts, executor=self.threads)
        for file_id in sorted(filter(is_id, {name.partition(".")[0] for name in names})):
            if claim := await self._claim(file_id):
                await complete(self._reconcile(file_id, claim))

    async def _announce_again(self) -> None:
        for file_id in await self.catalogue.unannounced():
            # Else its upload, or another process, is about to do it.
            if claim := await self._claim(file_id):
                try:
                    if record := await self.catalogue.get(file_id):
                        await self.announce(record)
                finally:
                    await in_thread(self.threads, claim.release)

    async def close(self) -> None:
        """Wait for writers that are being cancelled to clean up, then close."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=CLOSE_SECONDS)
        self._open_files.close()
        await self.catalogue.close()
        self.threads.shutdown(wait=False)
        self.writers.shutdown(wait=False)

    def _claim_new(self, size: int) -> tuple[str, Claim]:
        self.place.check()
        self.room.check_space(size)
        return Claim.new(self._parts)

    async def _claim(self, file_id: str) -> Claim | None:
        """Claim an id for the sweep; one that fails must not keep it from the others."""
        try:
            return await Claim.take_in_thread(self.threads, self._lock_path(file_id))
        except OSError as error:
            logger.warning("%s cannot be claimed: %s", file_id, error)
            return None

    async def _reconcile(self, file_id: str, claim: Claim) -> None:
        """Make files and catalogue agree, no record without bytes or the reverse; end the claim."""
        paths = [self._parts / f"{file_id}.part"]
        try:
            if not await in_thread(self.threads, self.place.holds):
                claim.abandon()  # Both are elsewhere; the sweep ends this when they are back.
                return
            if await self.catalogue.get(file_id) is None:
                paths.append(self.path(file_id))
            elif not await aiofiles.os.path.exists(self.path(file_id), executor=self.threads):
                await self.catalogue.remove(file_id)
            await in_thread(self.threads, self._unlink, paths)
        except BaseException:
            claim.abandon()
            raise
        await in_thread(self.threads, claim.release)

    def _unlink(self, paths: list[Path]) -> None:
        self.place.check()
        for path in paths:
            path.unlink(missing_ok=True)

    def _lock_path(self, file_id: str) -> Path:
        return self._parts / f"{file_id}.lock"
