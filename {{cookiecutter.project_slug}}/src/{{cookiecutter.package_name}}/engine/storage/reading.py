"""Reading of stored files: as `FilePart`s where a read can avoid waiting, otherwise with aiofiles.

A thread for every chunk costs more than copying the chunk, and most requested files are in the page
cache. Other platforms read large chunks with aiofiles.
"""

import os
from collections import OrderedDict
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from pathlib import Path

import aiofiles

from ..kernel.threads import complete, in_thread
from ..streams import file_parts
from ..streams.file_parts import FilePart
from .claims import acquire
from .records import FileRecord, not_found

NOWAIT = file_parts.NOWAIT
#: Bytes per read of aiofiles.
READ_SIZE = 1 << 20
#: Bytes up to which a file is opened, read and closed by one call in a thread.
SMALL = 64 << 10


class LocalFile:
    """An open file; it is closed when its last reader has released it."""

    def __init__(self, path: Path, threads: Executor) -> None:
        self.readers = 0
        self._path = path
        self._threads = threads
        self._descriptor: int | None = None

    async def open(self) -> None:
        """Open the file; raises Problem 404 if it is gone (with aiofiles, the first read does)."""
        if NOWAIT:
            opening = partial(os.open, self._path, os.O_RDONLY)
            try:
                self._descriptor = await acquire(self._threads, opening, os.close)
            except FileNotFoundError:
                raise not_found() from None

    def exists(self) -> bool:
        """Whether it is open, and no process has removed it since."""
        return self._descriptor is not None and os.fstat(self._descriptor).st_nlink > 0

    def release(self) -> None:
        self.readers -= 1
        if not self.readers:
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            # Closing a removed file can take a while, because the kernel then frees its blocks.
            self._threads.submit(os.close, self._descriptor)
            self._descriptor = None

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes | FilePart]:
        """Yield the bytes from `start` up to `stop` (exclusive)."""
        if self._descriptor is not None:
            for part in FilePart(self._descriptor, start, stop - start).turns():
                yield part
            return
        try:
            file = await aiofiles.open(self._path, "rb", buffering=0, executor=self._threads)
        except FileNotFoundError:
            raise not_found() from None
        try:
            await complete(file.seek(start))
            while start < stop:
                chunk = await complete(file.read(min(READ_SIZE, stop - start)))
                if not chunk:
                    raise EOFError("a stored file is shorter than its record")
                start += len(chunk)
                yield chunk
        finally:
            await complete(file.close())


async def read_path(path: Path, start: int, stop: int, threads: Executor) -> AsyncGenerator[bytes]:
    """Yield the bytes of a file from `start` up to `stop` (exclusive); raises Problem 404."""
    if stop - start <= SMALL:
        yield await in_thread(threads, read_now, path, start, stop - start)
        return
    file = LocalFile(path, threads)
    await file.open()
    try:
        async with aclosing(file.parts(start, stop)) as parts:
            async for part in parts:
                yield await part.read(threads) if isinstance(part, FilePart) else part
    finally:
        file.close()


def read_now(path: Path, start: int, size: int) -> bytes:
    """Return `size` bytes from `start`; blocking. Raises Problem 404, and EOFError at the end."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except FileNotFoundError:
        raise not_found() from None
    if len(data) < size:
        raise EOFError("a stored file is shorter than its record")
    return data


class OpenFiles:
    """The most recently read files, still open, with their records.

    A small file in this cache is sent without a thread, which halves the CPU time of the request.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[str, tuple[FileRecord, LocalFile]] = OrderedDict()

    def find(self, file_id: str) -> tuple[FileRecord, LocalFile] | None:
        """Return a file that is open and still exists, with its record."""
        if found := self._files.get(file_id):
            if found[1].exists():
                self._files.move_to_end(file_id)
                return found
            self.forget(file_id)
        return None

    def keep(self, record: FileRecord, file: LocalFile) -> None:
        """Keep a file open for later readers; evict the least recently read one above the limit."""
        if file.exists():
            self.forget(record.id)
            self._files[record.id] = record, file
            file.readers += 1
            if len(self._files) > self._limit:
                self.forget(next(iter(self._files)))

    def forget(self, file_id: str) -> None:
        if file_id in self._files:
            self._files.pop(file_id)[1].release()

    def sweep(self) -> None:
        """Close files that other processes have removed, so that their blocks are freed."""
        for file_id in list(self._files):
            self.find(file_id)

    def close(self) -> None:
        for file_id in list(self._files):
            self.forget(file_id)
