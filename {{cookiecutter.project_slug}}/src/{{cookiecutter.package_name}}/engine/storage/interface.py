"""The interface of a store, and the functions of the service that it calls.

An object store can implement it too, because a writer does not append, rename or seek. A writer
collects bytes into parts of a size that suits the store (1 MiB in a directory, at least 5 MiB in an
object store); the store then commits the file as a whole.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ..streams.file_parts import FilePart
from .records import Draft, FileRecord

#: Bytes of an upload; the caller must not change them after it has passed them on.
Chunk = bytes | memoryview
#: Called with every chunk in the thread that writes it; digests are computed there.
Tap = Callable[[Chunk], None]


@dataclass(frozen=True)
class Callbacks:
    """Functions that are called when files are stored and deleted; all are optional.

    `Files` takes any number of these, and calls the functions of each in turn. A failure of an
    `on_…` function is logged and does not fail the request.
    """

    #: Called once per file with its first 4 KiB, or all of a smaller file; raises Problem to refuse
    #: the file.
    accept: Callable[[Draft, bytes], None] | None = None
    #: Called with the whole file before it becomes visible. If it raises a Problem below 500, the
    #: client gets that problem and the bytes are moved to the folder `quarantine`.
    inspect: Callable[[FileRecord, AsyncIterator[bytes]], Awaitable[None]] | None = None
    #: Called after each block with the id and the number of bytes written; the upload waits for it.
    #: Keep the id secret: it allows to continue and to delete an unfinished upload.
    on_progress: Callable[[str, int], Awaitable[None]] | None = None
    #: Called when a file is stored, before the response. It is called again after a failure or a
    #: crash, so it must be idempotent.
    on_stored: Callable[[FileRecord], Awaitable[None]] | None = None
    #: Called after a file was deleted; not called again after a failure.
    on_deleted: Callable[[FileRecord], Awaitable[None]] | None = None


class Writer(Protocol):
    """A file that is being written; it is not visible until the store commits it."""

    id: str
    draft: Draft
    #: Bytes received.
    size: int
    committed: bool

    @property
    def written(self) -> int:
        """Those of the bytes that the store has."""

    async def write(self, data: Chunk) -> None:
        """Take more bytes; raises Problem 507 when there is no space for them.

        Raises the Problem of `Callbacks.accept` when the first 4 KiB are complete.
        """

    async def flush(self) -> None:
        """Write the collected bytes; the tap has seen all bytes when this returns."""

    async def finish(self) -> None:
        """Write the rest; raises the Problem of `accept` for a file smaller than 4 KiB."""


class OpenFile(Protocol):
    """A stored file that is open for reading."""

    def parts(self, start: int, stop: int) -> AsyncGenerator[bytes | FilePart]:
        """Yield the bytes from `start` up to `stop` (exclusive), as bytes or as parts of a file."""


class Storage(Protocol):
    """Immutable files with records; a parameter `storage: StorageDep` is the service's store.

    It has the files of all owners: `seen_record` checks that the sender may see one.

    async with storage.create(Draft(filename="a.txt", owner=principal.id)) as writer:
        await writer.write(b"…")
        record = await storage.commit(writer)
    """

    def create(
        self, draft: Draft, tap: Tap | None = None, size: int = 0
    ) -> AbstractAsyncContextManager[Writer]:
        """Begin a file; leaving the context without a commit removes it.

        `size` is the expected number of bytes, 0 if unknown. Raises Problem 413 when they exceed
        the owner's quota, 507 when the disk has no space for them; ValueError when a service with
        access control gets a draft without an owner, since only an admin could see the file.
        """

    async def commit(self, writer: Writer, digest: dict[str, str] | None = None) -> FileRecord:
        """Make the file durable, then visible, and return its record.

        Raises the Problem of a callback that refuses the file, and Problem 413 for the quota.
        """

    async def record(self, file_id: str) -> FileRecord:
        """Return the record of a complete file; raises Problem 404."""

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        """Return the records of the given files that exist, by id and without metadata.

        Do not pass these records to `open`, which may cache them.
        """

    def open(self, record: FileRecord) -> AbstractAsyncContextManager[OpenFile]:
        """Open a file; raises Problem 404, at the latest when the first bytes are read."""

    async def presigned(self, record: FileRecord, headers: Mapping[str, str]) -> str | None:
        """Return a URL at which the store itself sends a file with these headers, if it can."""

    def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive); raises Problem 404."""

    async def read_small(self, files: Sequence[tuple[str, int]]) -> list[bytes]:
        """Return the bytes of small files, given by id and size; raises Problem 404."""

    async def keep_crc32(self, values: Mapping[str, int]) -> None:
        """Add CRC-32 values to the records of these ids; a failure is not reported."""

    def records(
        self, after: int = 0, limit: int | None = None, owner: str | None = None
    ) -> AsyncGenerator[tuple[int, FileRecord]]:
        """Yield (cursor, record) in order of completion, starting after the cursor `after`.

        With `owner`, only the files of this owner.
        """

    async def delete(self, file_id: str) -> None:
        """Delete a file; raises Problem 404. Downloads in progress are not interrupted."""

    async def sweep(self) -> None:
        """Remove files of writers that died; files of running writers are not touched."""
