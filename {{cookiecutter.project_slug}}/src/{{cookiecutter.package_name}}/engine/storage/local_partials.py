"""The unfinished uploads of a directory.

uploads/{id}.part   the bytes so far; the offset is the size of this file
uploads/{id}.lock   the claim of the request that works on it, and the time of the newest one
"""

import asyncio
import errno
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from ..kernel.problem import Problem
from ..kernel.threads import complete, in_thread
from ..streams import clock
from .claims import Claim, acquire
from .interface import Tap
from .local import LocalStorage
from .partials import Partial, Partials, Received
from .place import check_moves
from .reading import read_path
from .records import FileRecord, is_id
from .writer import HEAD, LocalWriter

#: Seconds by which the wall clock may differ from the steady clock between two sweeps.
JUMP = 600.0
#: Bytes that are copied between two checks for a cancellation and for free space.
STEP = 8 << 20
#: Bytes per copy where the kernel cannot copy between files.
BLOCK = 1 << 20

logger = logging.getLogger(__name__)


def open_partials(storage: LocalStorage, max_concatenations: int) -> "LocalPartials":
    return LocalPartials(storage, max_concatenations)


class LocalPartials(Partials):
    """The unfinished uploads of one directory; several processes may share it."""

    storage: LocalStorage

    def __init__(self, storage: LocalStorage, max_concatenations: int) -> None:
        super().__init__(storage, max_concatenations)
        self._threads = storage.threads
        self._folder = storage.root / "uploads"
        self._folder.mkdir(exist_ok=True)
        self._clock = storage.root / "clock"
        check_moves(self._folder, storage.root / "parts")
        storage.place.watch(self._folder)
        # A thread of its own, so that a concatenation does not delay other uploads.
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="concatenation")

    async def _begin(self, partial: Partial) -> None:
        place = self.storage.place

        def touch() -> None:
            self._path(partial.id).touch()
            place.check()

        await in_thread(self._threads, place.check_space, partial.length or 0)
        await complete(self.save(partial))
        await in_thread(self._threads, touch)

    async def _names(self) -> list[str]:
        return await in_thread(self._threads, self._names_now)

    def _names_now(self) -> list[str]:
        return sorted(filter(is_id, {path.stem for path in self._folder.iterdir()}))

    @asynccontextmanager
    async def claimed(
        self, upload_id: str, patience: float = 0, asked_at: int | None = None
    ) -> AsyncGenerator[Claim | None]:
        lock = self._folder / f"{upload_id}.lock"
        stop = time.monotonic() + patience
        with self.storage.place.guarding():
            claim = await Claim.take_in_thread(self._threads, lock, asked_at)
            while claim is None and time.monotonic() < stop:
                await asyncio.sleep(0.02)
                claim = await Claim.take_in_thread(self._threads, lock, asked_at)
        try:
            yield claim
        finally:
            if claim is not None:
                await in_thread(self._threads, claim.release)

    async def received(self, upload_ids: Iterable[str]) -> dict[str, Received]:
        def look() -> dict[str, Received]:
            found = {}
            for upload_id in upload_ids:
                with suppress(FileNotFoundError):  # It was completed just now.
                    stat = self._path(upload_id).stat()
                    found[upload_id] = Received(stat.st_size, stat.st_mtime)
            self.storage.place.check()
            return found

        return await in_thread(self._threads, look)

    async def truncate(self, upload_id: str, size: int) -> None:
        with self.storage.place.guarding():
            await in_thread(self._threads, os.truncate, self._path(upload_id), size)

    @asynccontextmanager
    async def open(
        self, partial: Partial, size: int, tap: Tap | None = None
    ) -> AsyncGenerator[LocalWriter]:
        storage, path = self.storage, self._path(partial.id)

        def begin() -> tuple[FileIO, bytes | None]:
            file = FileIO(path, "r+")
            # `accept` has seen the first bytes of longer uploads, unless they are concatenated.
            if partial.is_part or (size >= HEAD and not partial.parts):
                return file, None
            return file, file.read(min(HEAD, size))

        with storage.place.guarding():
            file, head = await acquire(self._threads, begin, lambda begun: begun[0].close())
        pool, callbacks = storage.writers, storage.callbacks
        writer = LocalWriter(
            partial.id, partial.draft, path, file, pool, callbacks, tap, size, head
        )
        try:
            yield writer
        finally:
            await complete(writer.close(keep=True))

    def read(self, upload_id: str, size: int) -> AsyncGenerator[bytes]:
        return read_path(self._path(upload_id), 0, size, self._threads)

    async def concatenate(self, upload_id: str, parts: tuple[str, ...], size: int) -> None:
        async with self._concatenating():
            stop = threading.Event()
            loop = asyncio.get_running_loop()
            paths = [self._path(each) for each in (upload_id, *parts)]
            copying = loop.run_in_executor(self._copier, self._copy, paths, size, stop)
            try:
                with self.storage.place.guarding():
                    await asyncio.shield(copying)
            except asyncio.CancelledError:
                stop.set()
                await complete(asyncio.wait({copying}))
                copying.exception()  # Mark it as retrieved: this request is over.
                raise

    def _copy(self, paths: list[Path], size: int, stop: threading.Event) -> None:
        """Copy all paths after the first to the first; blocking."""
        place = self.storage.place
        place.check_space(size)
        with paths[0].open("wb", buffering=0) as target:
            try:
                for path in paths[1:]:
                    with path.open("rb", buffering=0) as source:
                        while _copy_step(source, target):
                            place.check_space()
                            if stop.is_set():
                                raise InterruptedError("the request was cancelled")
                if target.tell() != size:
                    raise OSError(errno.EIO, "a part is shorter than it was")
            except BaseException:
                target.truncate(0)
                raise

    async def _remove_bytes(self, upload_id: str) -> None:
        def unlink() -> None:
            self.storage.place.check()
            self._path(upload_id).unlink(missing_ok=True)

        await in_thread(self._threads, unlink)

    async def catch_up(self) -> None:
        """Extend the lives of uploads by a jump of the wall clock, or by the time of a reboot.

        The file `clock` has both clocks at the previous call. A jump back needs no repair.
        """
        # On a full disk the next sweep tries again.
        with suppress(Problem), self.storage.place.guarding():
            now, gap = await in_thread(self._threads, self._gap)
            if gap > JUMP:
                logger.warning("The clock jumped by %d s: uploads expire that much later", gap)
                await in_thread(self._threads, self._postpone, now - gap, gap)
                await self.storage.catalogue.write(
                    "UPDATE uploads SET state = json_set(state, '$.completed_at',"
                    " json_extract(state, '$.completed_at') + ?)"
                    " WHERE json_extract(state, '$.completed_at') <= ?",
                    gap,
                    now - gap,
                )
            await in_thread(self._threads, self._clock.write_text, f"{now} {clock.steady_time()}")

    def _gap(self) -> tuple[float, float]:
        """Return the time, and by how much the wall clock has advanced too far; blocking."""
        now, steady = time.time(), clock.steady_time()
        try:
            then, steady_then = map(float, self._clock.read_text().split())
        except (OSError, ValueError):
            return now, 0.0  # There is no file yet.
        return now, now - then - max(steady - steady_then, 0)

    def _postpone(self, before: float, gap: float) -> None:
        """Let the uploads that last changed before a time be `gap` seconds younger; blocking."""
        for path in self._folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if (changed_at := path.stat().st_mtime) <= before:
                    os.utime(path, (changed_at + gap,) * 2)

    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return the record of an upload's file after a crash between the rename and the commit.

        The bytes are durable, because they are synchronised before the rename.
        """
        try:
            stat = await in_thread(self._threads, self.storage.path(partial.id).stat)
        except FileNotFoundError:
            return None
        draft, now = partial.draft.model_dump(), datetime.now(UTC)
        record = FileRecord(**draft, id=partial.id, size=stat.st_size, created_at=now)
        await complete(self.storage.adopt(record))
        return record

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.part"


def _copy_step(source: BinaryIO, target: BinaryIO) -> int:
    """Copy up to STEP bytes between two files; return how many, 0 at the end."""
    if hasattr(os, "copy_file_range"):
        try:  # In the kernel, and on some file systems without copying any block.
            copied: int = os.copy_file_range(source.fileno(), target.fileno(), STEP)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
        else:
            return copied
    data = source.read(BLOCK)
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]
    return len(data)
