"""What a store must do. It fits an object store too: nothing appends, renames or seeks to write.

A writer collects what it is given into parts as large as the store likes (a directory: 1 MiB, an
object store: at least 5 MiB), so a file is a sequence of parts and one commit.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..streams.file_parts import FilePart
from .records import Draft, FileRecord

#: Bytes on their way; whoever gives them away changes them no more.
Chunk = bytes | memoryview
#: Called with every chunk in the thread that writes it; a digest is computed there.
Tap = Callable[[Chunk], None]


class Writer(Protocol):
    """A file that is being written; nobody else can see it."""

    id: str
    draft: Draft
    size: int

    async def write(self, data: Chunk) -> None:
        """Take more bytes; raises Problem 507 when there is no space for them."""

    async def flush(self) -> None:
        """Write what is collected, so that the tap has seen all of it."""

    async def commit(self, digest: dict[str, str] | None = None) -> FileRecord:
        """Make the file durable, then visible; only after that may success be reported.

        Whatever a callback raises to refuse the file is raised here.
        """


class OpenFile(Protocol):
    """A stored file that is open for reading."""

    def parts(self, start: int, stop: int) -> AsyncGenerator[bytes | FilePart]:
        """Yield what is between `start` and `stop` (exclusive), as it is sent best."""


class Storage(Protocol):
    """Immutable files with records; `storage: StorageDep` gives a route that of the service.

    async with storage.create(Draft(filename="a.txt")) as writer:
        await writer.write(b"…")
        record = await writer.commit()
    """

    def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0
    ) -> AbstractAsyncContextManager[Writer]:
        """Begin a file; leaving the context without a commit removes every trace of it.

        Raises Problem 413 or 507 when there is no room for a file of `size` bytes, 0 for unknown.
        """

    async def record(self, file_id: str) -> FileRecord:
        """Return the record of a complete file; raises Problem 404."""

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        """Return the records of those complete files that there are, by their ids.

        They are without metadata, so they are not for `open`, which may keep them.
        """

    def open(self, record: FileRecord) -> AbstractAsyncContextManager[OpenFile]:
        """Open a file; raises Problem 404, at the latest with its first bytes."""

    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive); raises Problem 404."""

    def records(
        self, after: int = 0, limit: int | None = None
    ) -> AsyncGenerator[tuple[int, FileRecord]]:
        """Yield (cursor, record) in order of completion, from behind the cursor `after`."""

    async def delete(self, file_id: str) -> None:
        """Remove a file; raises Problem 404. Who is reading it reads on."""

    async def sweep(self) -> None:
        """Remove what dead writers left behind; never touch what a living one works on."""
