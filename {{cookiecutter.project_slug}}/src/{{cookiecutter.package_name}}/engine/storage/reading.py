"""Stored files that are open: by descriptor where the platform reads those well, else by aiofiles.

A thread for every chunk costs more than to copy the chunk, and a file that is asked for is mostly
in the page cache (`streams.file_parts`). Elsewhere aiofiles reads large chunks.
"""

import os
from collections import OrderedDict
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

import aiofiles

from ..kernel.threads import complete, in_thread
from ..streams import file_parts
from ..streams.file_parts import FilePart
from .records import FileRecord, not_found

NOWAIT = file_parts.NOWAIT
#: Bytes per read where every read is a thread's.
READ_SIZE = 1 << 20
#: So many bytes are opened, read and closed by one call of a thread.
SMALL = 64 << 10


class LocalFile:
    """A file that is open for any number of readers."""

    def __init__(self, path: Path, threads: Executor) -> None:
        self.readers = 0
        self._path = path
        self._threads = threads
        self._descriptor: int | None = None

    async def open(self) -> None:
        """Open it; raises Problem 404 when it is gone (with aiofiles, when it is read)."""
        if NOWAIT:
            try:
                await in_thread(self._threads, self._open)
            except FileNotFoundError:
                raise not_found() from None
            except BaseException:
                self.close()  # Cancelled: the thread has opened it all the same.
                raise

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDONLY)

    def exists(self) -> bool:
        """Whether it is open, and nobody in any process has removed it since."""
        return self._descriptor is not None and os.fstat(self._descriptor).st_nlink > 0

    def close(self) -> None:
        if self._descriptor is not None:
            # The last descriptor of a removed file frees its blocks, which may take a while.
            self._threads.submit(os.close, self._descriptor)
            self._descriptor = None

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes | FilePart]:
        """Yield what is between `start` and `stop` (exclusive)."""
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
        yield await in_thread(threads, _read, path, start, stop - start)
        return
    file = LocalFile(path, threads)
    await file.open()
    try:
        async with aclosing(file.parts(start, stop)) as parts:
            async for part in parts:
                yield await part.read(threads) if isinstance(part, FilePart) else part
    finally:
        file.close()


def _read(path: Path, start: int, size: int) -> bytes:
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
    """The files that were read last, still open: a small one is then sent without any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[str, tuple[FileRecord, LocalFile]] = OrderedDict()

    def find(self, file_id: str) -> tuple[FileRecord, LocalFile] | None:
        """Return a file that is open and still there, with its record."""
        found = self._files.get(file_id)
        if found is None:
            return None
        if not found[1].exists():
            self.forget(file_id)
            return None
        self._files.move_to_end(file_id)
        return found

    def keep(self, record: FileRecord, file: LocalFile) -> None:
        """Keep a file open when its readers have gone, in place of the one read longest ago."""
        if file.exists():
            self.forget(record.id)
            self._files[record.id] = record, file
            file.readers += 1
            while len(self._files) > self._limit:
                self.forget(next(iter(self._files)))

    def forget(self, file_id: str) -> None:
        if file_id in self._files:
            self.release(self._files.pop(file_id)[1])

    def release(self, file: LocalFile) -> None:
        """Close a file that nobody reads and nobody keeps."""
        file.readers -= 1
        if not file.readers:
            file.close()

    def sweep(self) -> None:
        """Let go of what other processes have removed: its blocks are free only then."""
        for file_id in list(self._files):
            self.find(file_id)

    def close(self) -> None:
        for file_id in list(self._files):
            self.forget(file_id)
