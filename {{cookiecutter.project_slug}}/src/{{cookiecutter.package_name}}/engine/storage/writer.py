"""Writing: one block of a file is written in a thread while the next one is collected.

Blocks are large, so that a thread costs little per byte, and keep the chunks as they arrived, so
that nothing is copied in memory.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ..kernel.threads import complete, in_thread, notify
from .interface import Callbacks, Chunk, Tap
from .place import Place
from .records import Draft

#: Threads that write: each that runs competes with the event loop for the interpreter.
THREADS = min(4, os.cpu_count() or 1)
#: Bytes of a block, and the maximum number of buffers in one system call.
BLOCK = 1 << 20
MAX_CHUNKS = 1024
#: Bytes up to which the allocator reuses a freed buffer: more than any buffer of an upload.
REUSED = 4 << 20
#: Bytes that all writers of a store hold; above that each write waits until its bytes are written.
MAX_BUFFERED = 24 << 20
#: In files larger than LARGE, the kernel is asked after every WRITE_BACK bytes to write them to the
#: disk.
WRITE_BACK = 8 << 20
LARGE = 32 << 20
#: The first bytes of a file, which `Callbacks.accept` sees.
HEAD = 4096


def reuse_buffers(size: int) -> None:
    """Let the allocator reuse freed buffers of up to `size` bytes.

    To free a large block raises glibc's limits (mallopt(3), M_MMAP_THRESHOLD). Otherwise buffers
    are returned to the system, which costs a page fault per 4 KiB of an upload.
    """
    bytes(size)


class WriterPool:
    """The threads that write, and the bytes that all writers of the store hold in memory."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="writer")
        self.buffered = 0
        reuse_buffers(REUSED)


@dataclass(eq=False)
class LocalWriter:
    """Writes the bytes of one file from the offset `size` on."""

    id: str
    draft: Draft
    path: Path
    file: FileIO
    pool: WriterPool
    callbacks: Sequence[Callbacks]
    tap: Tap | None = None
    size: int = 0
    #: The first bytes, until `accept` has seen them; then None.
    head: bytes | None = b""
    committed: bool = False

    def __post_init__(self) -> None:
        #: How many bytes are in the file; `size` includes those in memory.
        self.written = self.size
        self._written_back = self.size
        self._chunks: list[Chunk] = []
        self._collected = 0
        self._writing: asyncio.Future[None] | None = None

    async def write(self, data: Chunk) -> None:
        if self.head is not None:
            self.head += data[: HEAD - len(self.head)]
            if len(self.head) == HEAD:
                self._accept(self.head)
        self._chunks.append(data)
        self._collected += len(data)
        self.size += len(data)
        self.pool.buffered += len(data)
        if self.pool.buffered > MAX_BUFFERED:
            await self.flush()
        elif self._collected >= BLOCK or len(self._chunks) >= MAX_CHUNKS:
            await self._settle()
            self._begin()

    async def flush(self) -> None:
        await self._settle()
        if self._chunks:
            self._begin()
            await self._settle()

    async def finish(self) -> None:
        await self.flush()
        if self.head is not None:
            self._accept(self.head)

    async def close(self, *, keep: bool = False) -> None:
        """Close the file; with `keep` the collected bytes are written first."""
        try:
            if keep:
                await self.flush()
            elif self._writing is not None:
                await asyncio.wait({self._writing})
        finally:
            self.pool.buffered -= self._collected
            if self._writing is not None:
                self._writing.exception()  # Mark it as retrieved: `write` has raised it already.
            if not self.file.closed:
                await in_thread(self.pool.threads, self.file.close)

    def _accept(self, head: bytes) -> None:
        for each in self.callbacks:
            if each.accept is not None:
                each.accept(self.draft, head)
        self.head = None

    def _begin(self) -> None:
        """Start to write the collected chunks; the previous block must be complete."""
        chunks, size = self._chunks, self._collected
        self._chunks, self._collected = [], 0
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self.pool.threads, self._write, chunks)

        def release(_: object) -> None:
            self.pool.buffered -= size

        self._writing.add_done_callback(release)

    async def _settle(self) -> None:
        """Wait for the current block; after a failure every further call raises it again."""
        if self._writing is not None:
            with self.pool.place.guarding():
                await complete(self._writing)
            self._writing = None
            progress = [each.on_progress for each in self.callbacks]
            await notify(progress, self.id, self.id, self.written)

    def _write(self, chunks: list[Chunk]) -> None:
        if self.tap is not None:
            for chunk in chunks:
                self.tap(chunk)
        self.pool.place.check_space()
        rest = list(chunks)
        while rest:
            count = write_at(self.file.fileno(), rest, self.written)
            self.written += count
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if count:
                rest[0] = memoryview(rest[0])[count:]
        self.pool.place.check()
        size = self.written - self._written_back
        if sys.platform == "linux" and self.written > LARGE and size >= WRITE_BACK:
            # This makes Linux start to write the pages without waiting for them. Otherwise the
            # fsync of a large file would have to wait for all of its bytes.
            advice = os.POSIX_FADV_DONTNEED
            os.posix_fadvise(self.file.fileno(), self._written_back, size, advice)
            self._written_back = self.written


def write_at(descriptor: int, chunks: list[Chunk], offset: int) -> int:
    """Write buffers at an offset in bytes; return how many bytes were written."""
    if hasattr(os, "pwritev"):
        count: int = os.pwritev(descriptor, chunks, offset)
        return count
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, b"".join(chunks))
