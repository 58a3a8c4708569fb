"""Files that arrive in several requests: what has come is kept until the rest has, or for a time.

    uploads/{id}.part   the bytes so far; its size is the offset, whatever any record says
    uploads/{id}.lock   the claim of the request that works on it

What is known of an upload is a row beside the records of the files, written when it changes and
never per chunk. Bytes whose digest is still to be checked are written behind the offset that the
row holds as `rollback`; a crash then leaves a tail, which the next request cuts off.
"""

import errno
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiofiles
import aiofiles.os
from pydantic import BaseModel, ConfigDict, Field

from ..streaming import Problem, complete, in_thread
from .claims import Claim
from .interface import Tap
from .local import LocalStorage
from .records import Draft, FileRecord, new_id
from .writer import LocalWriter, no_space

_SCHEMA = "CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, state TEXT NOT NULL)"


class Partial(BaseModel):
    """What is known of an upload; `fields` are the headers that a protocol must repeat."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=new_id)
    draft: Draft
    length: int | None = None
    fields: dict[str, str] = {}
    rollback: int | None = None
    #: Whether the upload becomes a file by itself when `length` bytes are there.
    completes: bool = False
    #: Whether it is only there to become a part of others, and never a file.
    is_part: bool = False
    #: The uploads whose bytes are its own, in this order.
    parts: tuple[str, ...] = ()
    completed_at: float | None = None


class LocalPartials:
    """The unfinished uploads of one directory; several processes may share it."""

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage
        self._folder = storage.root / "uploads"
        self._folder.mkdir(exist_ok=True)
        storage.catalogue.execute(_SCHEMA)

    async def add(self, partial: Partial) -> None:
        """Begin an upload; raises Problem 413 or 507 when there is no room for it."""
        reserved, owned = await self._reserved(partial.draft.owner)
        length = partial.length or 0
        await self._storage.check_quota(partial.draft, owned + length)
        await self._storage.check_space(reserved + length)
        claim = await self.claim(partial.id)
        if claim is None:
            raise Problem(503)  # Somebody else has drawn the same 74 random bits.
        try:
            with no_space():
                await in_thread(self._storage.threads, self._path(partial.id).touch)
                await complete(self.save(partial))
        finally:
            await self.release(claim)

    async def get(self, upload_id: str) -> Partial | None:
        rows = await self._storage.catalogue.run(
            "SELECT state FROM uploads WHERE id = ?", upload_id
        )
        return Partial.model_validate_json(str(rows[0][0])) if rows else None

    async def all(self) -> list[Partial]:
        rows = await self._storage.catalogue.run("SELECT state FROM uploads ORDER BY id")
        return [Partial.model_validate_json(str(row[0])) for row in rows]

    async def save(self, partial: Partial) -> None:
        await self._storage.catalogue.run(
            "INSERT OR REPLACE INTO uploads (id, state) VALUES (?, ?)",
            partial.id,
            partial.model_dump_json(),
        )

    async def claim(self, upload_id: str) -> Claim | None:
        """Claim an upload among all processes; None when another one has it."""
        lock = self._folder / f"{upload_id}.lock"
        return await in_thread(self._storage.threads, Claim.take, lock)

    async def release(self, claim: Claim) -> None:
        await in_thread(self._storage.threads, claim.release)

    async def size(self, upload_id: str) -> int | None:
        """Return how many bytes there are; None when not even their file is."""
        try:
            path = self._path(upload_id)
            return (await aiofiles.os.stat(path, executor=self._storage.threads)).st_size
        except FileNotFoundError:
            return None

    async def sizes(self) -> dict[str, int]:
        """Return how many bytes there are of every upload that has any left here."""
        return await in_thread(self._storage.threads, _sizes, self._folder)

    async def changed_at(self, partial: Partial) -> float:
        """Return when the upload last changed, in seconds since the epoch."""
        if partial.completed_at is not None:
            return partial.completed_at
        try:
            path = self._path(partial.id)
            return (await aiofiles.os.stat(path, executor=self._storage.threads)).st_mtime
        except FileNotFoundError:
            return int(partial.id.replace("-", "")[:12], 16) / 1000  # The time in a UUIDv7.

    async def truncate(self, upload_id: str, size: int) -> None:
        path = self._path(upload_id)
        await in_thread(self._storage.threads, os.truncate, path, size)

    @asynccontextmanager
    async def open(self, partial: Partial, tap: Tap | None = None) -> AsyncGenerator[LocalWriter]:
        """Write on where the bytes end; what was taken is kept, however the block ends."""
        path = self._path(partial.id)
        threads = self._storage.threads
        file = await complete(aiofiles.open(path, "r+b", buffering=0, executor=threads))
        size = await in_thread(threads, os.fstat, file.fileno())
        writer = LocalWriter(
            self._storage, partial.id, partial.draft, path, file, tap, size.st_size
        )
        try:
            yield writer
        finally:
            await complete(writer.close(keep=True))

    def read(self, upload_id: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the bytes so far, up to `size`."""
        return self._storage.read_path(self._path(upload_id), 0, size)

    async def concatenate(self, upload_id: str, parts: tuple[str, ...]) -> None:
        """Make the bytes of an upload those of others, in this order; they keep theirs."""
        sources = [self._path(part) for part in parts]
        target = self._path(upload_id)
        with no_space():
            await in_thread(self._storage.threads, _concatenate, target, sources)

    async def remove(self, upload_id: str) -> None:
        """Forget an upload and its bytes; a file that has become of it stays."""
        await self._storage.catalogue.run("DELETE FROM uploads WHERE id = ?", upload_id)
        await in_thread(self._storage.threads, self._path(upload_id).unlink, missing_ok=True)

    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return the file that an upload has become, ending what a crash cut short; else None.

        Bytes under their final name without a record were made durable before they got it.
        """
        final, threads = self._storage.path(partial.id), self._storage.threads
        record = await self._storage.catalogue.get(partial.id)
        if record is None and await aiofiles.os.path.exists(final, executor=threads):
            record = FileRecord(
                **partial.draft.model_dump(),
                id=partial.id,
                size=(await aiofiles.os.stat(final, executor=threads)).st_size,
                created_at=datetime.now(UTC),
            )
            await complete(self._storage.adopt(record))
        return record

    async def orphans(self) -> list[str]:
        """Return the ids with files and without a row: of uploads that had just begun."""
        names = await aiofiles.os.listdir(self._folder, executor=self._storage.threads)
        rows = await self._storage.catalogue.run("SELECT id FROM uploads")
        return sorted({name.partition(".")[0] for name in names} - {str(row[0]) for row in rows})

    async def _reserved(self, owner: str | None) -> tuple[int, int]:
        """Return the bytes still to come of all unfinished uploads, and all of one owner's."""
        sizes = await self.sizes()
        reserved = owned = 0
        for partial in await self.all():
            if partial.completed_at is None:
                size = sizes.get(partial.id, 0)
                reserved += max((partial.length or 0) - size, 0)
                owned += max(partial.length or 0, size) if partial.draft.owner == owner else 0
        return reserved, owned

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.part"


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {e.name[:-5]: e.stat().st_size for e in entries if e.name.endswith(".part")}


def _concatenate(target: Path, sources: list[Path]) -> None:
    with target.open("wb", buffering=0) as out:
        for source in sources:
            with source.open("rb", buffering=0) as part:
                _copy(part.fileno(), out.fileno(), source.stat().st_size)


def _copy(source: int, target: int, size: int) -> None:
    """Copy within the kernel where it can (and share the blocks, on some file systems)."""
    while size:
        try:
            if sys.platform != "linux":
                raise OSError(errno.ENOSYS, "")
            count = os.copy_file_range(source, target, size)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            count = os.write(target, os.read(source, min(size, 1 << 20)))
        if not count:
            raise OSError(errno.EIO, "a part is shorter than it was")
        size -= count
