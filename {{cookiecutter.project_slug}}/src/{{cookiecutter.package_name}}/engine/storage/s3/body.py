"""The bytes of a request to S3: in memory, or in a temporary file when memory is short."""

import asyncio
import base64
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any
from zlib import crc32

from ...kernel.problem import Problem
from ...kernel.threads import in_thread
from ..interface import Chunk
from .pool import REQUEST_SECONDS, S3Pool

#: Bytes of a body that need no memory of the pool, and above which a body is in a file.
SMALL, MOST_HELD = 64 << 10, 32 << 20
#: Bytes that are read from a file at once.
READ = 256 << 10
#: Bytes of the disk that are left to the copies of the records, but at most a quarter of it.
KEPT_FREE = 256 << 20
#: Bytes per second at which a request may be sent.
LOWEST_RATE = 64 << 10


class SpillFile:
    """A temporary file for several threads: a request that was cancelled may still read."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._lock = Lock()

    def append(self, chunk: Chunk) -> "Spilled":
        with self._lock:
            start, rest = self._file.seek(0, os.SEEK_END), memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        return Spilled(self, start, len(chunk))

    def read(self, start: int, size: int) -> bytes:
        """Return nothing after `close`."""
        with self._lock:
            if self._file.closed:
                return b""
            self._file.seek(start)
            return self._file.read(size)

    def close(self) -> None:
        with self._lock:
            self._file.close()


@dataclass(frozen=True)
class Spilled:
    """Bytes in a temporary file."""

    file: SpillFile
    start: int
    size: int

    def __len__(self) -> int:
        return self.size

    def after(self, cut: int) -> "Spilled":
        """Return the bytes after the first ones."""
        return Spilled(self.file, self.start + cut, self.size - cut)

    def parts(self) -> Generator[bytes]:
        """Yield the bytes; blocking."""
        for start in range(0, self.size, READ):
            yield self.file.read(self.start + start, min(READ, self.size - start))


class Body:
    """Chunks that are sent as the body of a request, once or several times."""

    def __init__(self, pool: S3Pool) -> None:
        self._pool = pool
        self.chunks: list[Chunk | Spilled] = []
        self.size = 0
        #: Bytes in memory, which belong to the pool.
        self.held = 0
        #: Open files with the other ones; the last one takes more.
        self.files: list[SpillFile] = []
        #: The CRC-32 of the chunks that `update` has seen.
        self.crc = 0

    async def take(self, size: int) -> bool:
        """Take memory for the next bytes; return False if `spill` has to follow after `add`."""
        held = self.held + size
        may_wait = not self.files and SMALL < held <= MOST_HELD
        has_memory = may_wait and await self._pool.take(size)
        if not has_memory:
            self._pool.buffered += size
        self.held = held
        return has_memory or held <= SMALL

    def add(self, chunk: Chunk | Spilled) -> None:
        """Add a chunk for which memory was taken."""
        self.chunks.append(chunk)
        self.size += len(chunk)

    async def spill(self) -> None:
        """Move the chunks to a temporary file, and free their memory; raises Problem 503."""
        try:
            await in_thread(self._pool.files, self._spill)
        except OSError as error:  # Such as a full disk.
            detail = "Too many uploads are in progress."
            raise Problem(503, detail, headers={"Retry-After": "10"}) from error
        self._pool.give(self.held)
        self.held = 0

    def _spill(self) -> None:
        disk = shutil.disk_usage(tempfile.gettempdir())
        if disk.free - self.held < min(KEPT_FREE, disk.total // 4):
            raise OSError(errno.ENOSPC, "the disk of the temporary files is full")
        if not self.files:
            self.files.append(SpillFile())
        chunks: list[Spilled] = []
        for chunk in self.chunks:
            each = chunk if isinstance(chunk, Spilled) else self.files[-1].append(chunk)
            if chunks and chunks[-1].file is each.file:  # It follows there.
                each = Spilled(each.file, chunks[-1].start, chunks.pop().size + each.size)
            chunks.append(each)
        self.chunks = [*chunks]

    def update(self, chunks: Sequence[Chunk | Spilled]) -> None:
        """Add chunks to the checksum; blocking."""
        for chunk in chunks:
            for part in chunk.parts() if isinstance(chunk, Spilled) else (chunk,):
                self.crc = crc32(part, self.crc)

    def extend(self, other: "Body") -> None:
        """Take over another body, except for its checksum."""
        self.chunks += other.chunks
        self.size, self.held = self.size + other.size, self.held + other.held
        self.files += other.files

    def tail(self, size: int) -> "Body":
        """Return the last bytes, as a body that shares their memory."""
        tail = Body(self._pool)
        tail.files = self.files
        for chunk in reversed(self.chunks):
            cut = max(len(chunk) - (size - tail.size), 0)
            if cut == len(chunk):
                break
            tail.add(chunk.after(cut) if isinstance(chunk, Spilled) else memoryview(chunk)[cut:])
        tail.chunks.reverse()
        return tail

    def clear(self) -> None:
        """Free the memory, and remove the files."""
        self._pool.give(self.held)
        for file in self.files:
            self._pool.files.submit(file.close)
        self.chunks, self.files = [], []
        self.size = self.held = 0

    async def send(self, operation: str, key: str, **arguments: Any) -> Any:
        """Send a request with this body; see `S3Pool.ask`."""
        seconds, pool = self.size / LOWEST_RATE, self._pool
        arguments |= {"Body": self if self.size else b"", "ChecksumCRC32": self.checksum}
        with pool.bucket.errors():
            # Also the wait for a turn ends when S3 does not reply.
            async with asyncio.timeout(REQUEST_SECONDS + seconds):
                async with pool.reading if self.files else nullcontext():
                    return await pool.ask(operation, key, seconds=seconds, **arguments)

    @property
    def checksum(self) -> str:
        return base64.b64encode(self.crc.to_bytes(4)).decode()

    # The client takes the length from `__len__`, and repeats a request after `seek(0)`. It requires
    # a `read`, but the HTTP client iterates.
    def __len__(self) -> int:
        return self.size

    def read(self, size: int = -1) -> bytes:
        raise NotImplementedError

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    async def __aiter__(self) -> AsyncGenerator[Chunk]:
        for chunk in self.chunks:
            if isinstance(chunk, Spilled):
                parts = chunk.parts()
                while part := await in_thread(self._pool.files, next, parts, b""):
                    yield part
            else:
                yield chunk
