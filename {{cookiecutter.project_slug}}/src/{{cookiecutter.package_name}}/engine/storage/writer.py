"""Chunks on their way into a file: one block is written in a thread while the next one fills.

Blocks are large, so that the hop into a thread costs little per byte, and made of the chunks as
they came: nothing is copied on this side of the disk.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiofiles.threadpool.binary import AsyncFileIO

from ..kernel.threads import complete, in_thread
from .interface import Chunk, Tap
from .records import Draft, FileRecord

if TYPE_CHECKING:
    from .local import LocalStorage

#: Bytes of a block, and the most buffers that one call of the system takes.
BLOCK = 1 << 20
MAX_CHUNKS = 1024
#: Bytes that all writers of a process hold; above that each writes what it has, and waits for it.
MAX_BUFFERED = 24 << 20
#: Bytes that the disk is told to begin with at once, in files that are larger than this.
WRITE_BACK = 8 << 20
LARGE = 32 << 20
#: Bytes by which a file's type is recognised.
HEAD = 4096


class LocalWriter:
    """The bytes of one file, from `size` on; `written` of them are in it."""

    def __init__(
        self,
        storage: "LocalStorage",
        file_id: str,
        draft: Draft,
        part: Path,
        file: AsyncFileIO,
        tap: Tap | None = None,
        size: int = 0,
    ) -> None:
        self.id = file_id
        self.draft = draft
        self.size = size
        self.written = size
        self._started = size
        self.committed = False
        #: Whether the first bytes are those of a file, and tell its type.
        self.is_file = True
        self._storage = storage
        self._part = part
        self._file = file
        self._tap = tap
        self._chunks: list[Chunk] = []
        self._collected = 0
        self._writing: asyncio.Future[None] | None = None

    async def write(self, data: Chunk) -> None:
        self._chunks.append(data)
        self._collected += len(data)
        self.size += len(data)
        self._storage.buffered += len(data)
        if self._storage.buffered > MAX_BUFFERED:
            await self.flush()
        elif self._collected >= BLOCK or len(self._chunks) >= MAX_CHUNKS:
            await self._settle()
            self._begin()

    async def flush(self) -> None:
        await self._settle()
        if self._chunks:
            self._begin()
            await self._settle()

    async def commit(self, digest: dict[str, str] | None = None) -> FileRecord:
        await self.flush()
        storage = self._storage
        if storage.callbacks.accept:
            await complete(self._file.seek(0))
            storage.callbacks.accept(self.draft, await complete(self._file.read(HEAD)))
        record = FileRecord(
            **self.draft.model_dump(),
            id=self.id,
            size=self.size,
            created_at=datetime.now(UTC),
            digest=digest,
        )
        with storage.place.guarding():
            await storage.inspect(record, self._part)
            if sys.platform == "win32":  # It renames no open file; closing it once more is fine.
                await in_thread(storage.threads, os.fsync, self._file.fileno())
                await complete(self._file.close())
            async with storage.room.within_quota(self.draft, self.size):
                # Once begun it goes to its end: a record must never be without its bytes.
                descriptor = None if self._file.closed else self._file.fileno()
                await complete(storage.publish(descriptor, self._part, record))
        self.committed = True
        await storage.announce(record)
        return record

    async def close(self, *, keep: bool = False) -> None:
        """Close the file; what is collected is written first when it is to be kept."""
        try:
            if keep:
                await self.flush()
            elif self._writing is not None:
                await asyncio.wait({self._writing})
        finally:
            self._storage.buffered -= self._collected
            if self._writing is not None:
                self._writing.exception()  # Seen: whoever wrote was told, or has left.
            await self._file.close()

    def _begin(self) -> None:
        """Hand what is collected to a thread; only when nothing is being written."""
        accept = self._storage.callbacks.accept
        if accept and self.is_file and not self.written and self._collected >= HEAD:
            accept(self.draft, b"".join(self._chunks[:HEAD])[:HEAD])
        chunks, size = self._chunks, self._collected
        self._chunks, self._collected = [], 0
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._storage.writers, self._write, chunks)
        self._writing.add_done_callback(lambda _: self._storage.release(size))

    async def _settle(self) -> None:
        """Wait for the block that is being written; a failed one stays, so that none follows it."""
        if self._writing is not None:
            with self._storage.place.guarding():
                await complete(self._writing)
            self._writing = None
            await self._storage.callbacks.progress(self.id, self.written)

    def _write(self, chunks: list[Chunk]) -> None:
        if self._tap is not None:
            for chunk in chunks:
                self._tap(chunk)
        self._storage.room.check_reserve()
        rest = list(chunks)
        while rest:
            count = write_at(self._file.fileno(), rest, self.written)
            self.written += count
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if count:
                rest[0] = memoryview(rest[0])[count:]
        self._storage.place.check()
        unstarted = self.written - self._started
        if self.written > LARGE and unstarted >= WRITE_BACK and hasattr(os, "posix_fadvise"):
            # The only word by which Python lets Linux begin to write these pages to the disk, and
            # not wait. Without it all of a large file would be waited for at its end, by fsync.
            advice = os.POSIX_FADV_DONTNEED
            os.posix_fadvise(self._file.fileno(), self._started, unstarted, advice)
            self._started = self.written


if hasattr(os, "pwritev"):

    def write_at(descriptor: int, chunks: list[Chunk], offset: int) -> int:
        """Write buffers at an offset in bytes; return how many bytes were taken."""
        return os.pwritev(descriptor, chunks, offset)
else:

    def write_at(descriptor: int, chunks: list[Chunk], offset: int) -> int:
        """Write buffers at an offset in bytes; return how many bytes were taken."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, b"".join(chunks))


def move_durably(descriptor: int | None, part: Path, final: Path) -> None:
    """Flush an open file to the disk (a closed one is there), then give it its final name."""
    if descriptor is not None:
        os.fsync(descriptor)
    part.replace(final)
    if sys.platform != "win32":  # Windows opens no directory, and its rename is in the journal.
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
