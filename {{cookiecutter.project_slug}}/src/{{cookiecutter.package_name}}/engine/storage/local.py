"""A store in a directory: files, and their records in a catalogue.

    parts/{id}.part   a file while it is written     files/{xx}/{id}     a complete file
    parts/{id}.lock   the claim of its writer        catalogue.sqlite3   the records, and the format
    reserve           space for deletions

A file is complete when its record is committed, which is the last step: fsync(file), rename,
fsync(directory), commit, then the response. A crash between two of these steps leaves an unlocked
claim, so recovery reads only `parts/`, however many files there are.
"""

import asyncio
import errno
import logging
import os
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from io import FileIO
from itertools import starmap
from pathlib import Path
from typing import TypeVar

from ..kernel.kernel import Measure
from ..kernel.problem import Problem
from ..kernel.threads import complete, in_thread
from .base import BaseStorage
from .catalogue import CREATED, LocalCatalogue, check_format
from .claims import Claim, acquire, check_locks
from .interface import Callbacks, Tap
from .place import NO_SPACE, PROBE, Place, check_moves
from .reading import LocalFile, OpenFiles, read_now, read_path
from .records import Draft, FileRecord, checked_id, is_id
from .reserve import Reserve
from .settings import StorageSettings
from .writer import LocalWriter, WriterPool

T = TypeVar("T")
#: Files that stay open after they have been read.
OPEN_FILES = 512
#: Seconds that a deletion waits for the claim of the file.
CLAIM_SECONDS = 10.0

logger = logging.getLogger(__name__)


class LocalStorage(BaseStorage):
    """The store of one directory; several processes may share it."""

    place: Place
    catalogue: LocalCatalogue
    partials_module = ".local_partials"
    writer_type = LocalWriter

    def __init__(self, settings: StorageSettings, callbacks: Sequence[Callbacks] = ()) -> None:
        """Open the store; blocking. Raises ValueError when several callbacks inspect files."""
        super().__init__(settings, callbacks)
        self.root = root = settings.directory
        check_format(root / "catalogue.sqlite3")
        self._files, self._parts = root / "files", root / "parts"
        for folder in (self._parts, self._files):
            folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(root)
        #: The folders in `files` that exist after a power cut, too, as far as is known here.
        self._durable: set[Path] = set()
        self._reserve = Reserve(root / "reserve")
        self._reserve.spend_if_full()  # The start needs some space, too.
        check_locks(self._parts)
        kept = root / "quarantine"
        # A process that starts at the same time has a file of its own there.
        inner = [each for each in self._files.iterdir() if not each.name.startswith(PROBE)]
        folders = [self._files, *inner, *([kept] if kept.exists() else [])]
        check_moves(self._parts, *folders)
        self.place = Place(root, settings.keep_free)
        self.catalogue = LocalCatalogue(root / "catalogue.sqlite3", self.place)
        self.place.watch(root, self._files, self._parts)
        self._reserve.keep()
        self.writers = WriterPool(self.place)
        self._open_files = OpenFiles(OPEN_FILES)

    def prepare(self, umask: int) -> None:
        # The permissions of a directory guard all files in it, and SQLite copies those of the
        # catalogue to its `-wal` file.
        for path in (self.root, self.root / "catalogue.sqlite3"):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & umask and sys.platform != "win32":
                try:
                    path.chmod(mode & ~umask)
                except PermissionError:
                    logger.warning("%s belongs to another user: others may have access to it", path)
        os.environ[CREATED] = str((self.root / "catalogue.sqlite3").absolute())

    def path(self, file_id: str) -> Path:
        """Return the path of a complete file; the last bits of an id are random."""
        return self._files / file_id[-2:] / checked_id(file_id)

    @asynccontextmanager
    async def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0, file_id: str | None = None
    ) -> AsyncGenerator[LocalWriter]:
        await self.check_owner(draft.owner, size)
        with self.place.guarding():
            begin = partial(self._begin, size, file_id)
            claim, part, file = await acquire(self.threads, begin, _abort)
        writer = LocalWriter(claim.id, draft, part, file, self.writers, self.callbacks, tap)
        with self.working():
            try:
                try:
                    yield writer
                finally:
                    await complete(writer.close())
            finally:
                if writer.committed:
                    await in_thread(self.threads, claim.release)
                else:
                    await complete(self._reconcile(claim, undo=True))

    def _begin(self, size: int, file_id: str | None) -> tuple[Claim, Path, FileIO]:
        self.place.check()
        self.place.check_space(size)
        claim = Claim.take(self._lock(file_id)) if file_id else Claim.new(self._parts)
        if claim is None:
            raise OSError(errno.EBUSY, "the file is in use", file_id)
        part = claim.path.with_suffix(".part")
        try:
            return claim, part, FileIO(part, "x")
        except OSError:
            claim.release()
            raise

    def _written(self, writer: LocalWriter) -> AsyncGenerator[bytes]:
        return read_path(writer.path, 0, writer.size, self.threads)

    async def _quarantine(self, writer: LocalWriter) -> None:
        quarantine = self.root / "quarantine"
        await in_thread(self.threads, quarantine.mkdir, exist_ok=True)
        await in_thread(self.threads, writer.path.replace, quarantine / writer.id)

    async def make_durable(self, writer: LocalWriter) -> None:
        file, part, final = writer.file, writer.path, self.path(writer.id)
        await in_thread(self.threads, self._move_durably, file, part, final)

    def _move_durably(self, file: FileIO, part: Path, final: Path) -> None:
        os.fsync(file.fileno())
        file.close()  # Windows cannot rename an open file.
        folder = final.parent
        if folder not in self._durable:
            # Even if it exists: another process may have made it just now.
            folder.mkdir(exist_ok=True)
            _sync_folder(self._files)
            self._durable.add(folder)
        part.replace(final)
        _sync_folder(folder)

    async def record(self, file_id: str) -> FileRecord:
        if found := self._open_files.find(file_id):
            return found[0]
        return await super().record(file_id)

    @asynccontextmanager
    async def open(self, record: FileRecord) -> AsyncGenerator[LocalFile]:
        if found := self._open_files.find(record.id):
            file = found[1]
        else:
            file = LocalFile(self.path(record.id), self.threads)
            try:
                await file.open()
            except Problem:
                await in_thread(self.threads, self.place.check)  # 503 if the directory is gone.
                raise
            self._open_files.keep(record, file)
        file.readers += 1
        try:
            yield file
        finally:
            file.release()

    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        return read_path(self.path(file_id), start, stop, self.threads)

    async def read_small(self, files: Sequence[tuple[str, int]]) -> list[bytes]:
        paths = [(self.path(file_id), 0, size) for file_id, size in files]
        return await in_thread(self.threads, lambda: list(starmap(read_now, paths)))

    async def freeing(self, deletion: Callable[[], Awaitable[T]]) -> T:
        """Run a deletion; on a full disk it may use the reserve of the store."""
        return await self._reserve.used_for(deletion, self.catalogue)

    async def _delete(self, file_id: str) -> FileRecord | None:
        await self.record(file_id)  # Without a record, the claim may be that of an upload.
        give_up_at = time.monotonic() + CLAIM_SECONDS
        with self.place.guarding():
            while (claim := await Claim.take_in_thread(self.threads, self._lock(file_id))) is None:
                await self.record(file_id)  # Raises 404 if another task has deleted it.
                if time.monotonic() > give_up_at:
                    raise Problem(503, "The file is in use now.", headers={"Retry-After": "10"})
                await asyncio.sleep(0.01)
            try:
                self._open_files.forget(file_id)  # The disk frees the blocks of closed files only.
                return await complete(self._remove(file_id))
            finally:
                # If the record could not be removed, the file stays as it was.
                await complete(self._reconcile(claim))
                self._open_files.forget(file_id)  # Another request may have opened it meanwhile.

    async def _remove(self, file_id: str) -> FileRecord | None:
        try:
            return await self.catalogue.remove(file_id)
        except Problem as problem:
            if problem.type is not NO_SPACE:
                raise
            # A full disk has no space even for the deletion of a row, so the bytes go first. If the
            # process dies before the second try, recovery finds the claim and removes the record.
            await in_thread(self.threads, self.path(file_id).unlink, missing_ok=True)
            return await self.catalogue.remove(file_id)

    async def sweep(self) -> None:
        self._open_files.sweep()
        error = await self.catalogue.check()
        if not await in_thread(self.threads, self.place.look, write=True, error=error):
            return  # The path may lead to another store.
        await self.recover()
        await in_thread(self.threads, self._reserve.keep)
        await self._announce_again(self._claimed)

    @asynccontextmanager
    async def _claimed(self, file_id: str) -> AsyncGenerator[object]:
        claim = await self._claim(file_id)
        try:
            yield claim
        finally:
            if claim:
                await in_thread(self.threads, claim.release)

    async def recover(self) -> None:
        """Finish or undo the work of writers that died."""
        paths = await in_thread(self.threads, lambda: list(self._parts.iterdir()))
        for file_id in sorted(filter(is_id, {path.name.partition(".")[0] for path in paths})):
            if claim := await self._claim(file_id):
                await complete(self._reconcile(claim))

    async def look(self) -> None:
        error = await self.catalogue.check()
        await in_thread(self.threads, self.place.look, error=error)

    def measures(self) -> list[Measure]:
        free = Measure("storage_free_bytes", "Free bytes of the disk.", "max", self._free_bytes)
        help_, read = "Bytes received and not yet written.", lambda: self.writers.buffered
        return [*super().measures(), free, Measure("storage_buffered_bytes", help_, "sum", read)]

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    async def close(self) -> None:
        await self._settle()
        self._open_files.close()
        await super().close()
        self.place.close()
        self.writers.threads.shutdown(wait=False)

    async def _claim(self, file_id: str) -> Claim | None:
        """Claim an id for the sweep; a failure is logged, so that the sweep continues."""
        try:
            return await Claim.take_in_thread(self.threads, self._lock(file_id))
        except OSError as error:
            logger.warning("%s cannot be claimed: %s", file_id, error)
            return None

    async def _reconcile(self, claim: Claim, *, undo: bool = False) -> None:
        """Remove bytes without a record or a record without bytes; then release the claim.

        With `undo` a record is removed, too: no client has a response that contains it. A failure
        is logged, and the next sweep tries again.
        """
        final, paths = self.path(claim.id), [claim.path.with_suffix(".part")]
        try:
            # Even if the directory was moved: this database moved with it. Another process may have
            # locked it, so only a record that exists is removed.
            if undo and await self.catalogue.get(claim.id) is not None:
                statement = "DELETE FROM files WHERE id = ?"
                await self.catalogue.write(statement, claim.id, anywhere=True)
            if not await in_thread(self.threads, self.place.holds):
                claim.abandon()  # The directory is missing; a later sweep removes the files.
                return
            if await self.catalogue.get(claim.id) is None:
                paths.append(final)
            elif not await in_thread(self.threads, final.exists):
                await self.catalogue.remove(claim.id)
            await in_thread(self.threads, self._unlink, paths)
        except (OSError, sqlite3.OperationalError, Problem) as error:
            claim.abandon()
            logger.warning("%s cannot be cleaned up now: %s", claim.id, error)
            return
        except BaseException:
            claim.abandon()
            raise
        await in_thread(self.threads, claim.release)

    def _unlink(self, paths: list[Path]) -> None:
        self.place.check()
        for path in paths:
            path.unlink(missing_ok=True)

    def _lock(self, file_id: str) -> Path:
        return self._parts / f"{file_id}.lock"


def _sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable; blocking."""
    if sys.platform != "win32":  # Windows journals renames, and cannot open a directory.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _abort(begun: tuple[Claim, Path, FileIO]) -> None:
    """Undo the beginning of a file; blocking."""
    claim, part, file = begun
    try:
        file.close()
        part.unlink(missing_ok=True)
    except OSError:
        claim.abandon()
        raise
    claim.release()
