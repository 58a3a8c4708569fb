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
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import aiofiles
import aiofiles.os
from pydantic import BaseModel, ConfigDict, Field

from ..streaming import complete, in_thread
from .claims import Claim
from .interface import Tap
from .local import LocalStorage
from .records import Draft, FileRecord, created_at, is_id, new_id
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
        self._threads = storage.threads
        self._folder = storage.root / "uploads"
        self._folder.mkdir(exist_ok=True)
        storage.catalogue.execute(_SCHEMA)

    def working(self) -> AbstractContextManager[None]:
        return self._storage.working()

    async def add(self, partial: Partial) -> None:
        """Begin an upload; raises Problem 413 or 507 when there is no room for it."""
        rows = await self._storage.catalogue.run(
            "SELECT id, json_extract(state, '$.length'), json_extract(state, '$.draft.owner')"
            " FROM uploads WHERE json_extract(state, '$.completed_at') IS NULL"
        )
        length, owner = partial.length or 0, partial.draft.owner
        missing, owned = await in_thread(self._threads, _reserved, self._folder, rows, owner)
        await self._storage.room.check_quota(partial.draft, length + owned)
        with no_space():
            await in_thread(self._threads, self._storage.room.check_space, length + missing)
            await complete(self.save(partial))
            await in_thread(self._threads, self._path(partial.id).touch)

    async def load(self, upload_id: str) -> tuple[Partial, FileRecord | None] | None:
        """Return what is known of an upload, and the file that has become of it."""
        rows = await self._storage.catalogue.run(
            "SELECT state, record FROM uploads LEFT JOIN files USING (id) WHERE id = ?", upload_id
        )
        if not rows:
            return None
        state, record = rows[0]
        file = FileRecord.model_validate_json(str(record)) if record else None
        return Partial.model_validate_json(str(state)), file

    async def unsettled(self) -> list[Partial]:
        """Return the uploads that may become files by themselves, and have not."""
        rows = await self._storage.catalogue.run(
            "SELECT state FROM uploads WHERE json_extract(state, '$.completed_at') IS NULL"
            " AND json_extract(state, '$.completes') ORDER BY id"
        )
        return [Partial.model_validate_json(str(row[0])) for row in rows]

    async def expired(self, before: float, among: str | None = None) -> list[str]:
        """Return the uploads that last changed before then, and what is left of lost ones."""
        rows = await self._storage.catalogue.run(
            "SELECT id, json_extract(state, '$.completed_at') FROM uploads"
            " WHERE ?1 IS NULL OR id = ?1",
            among,
        )
        return await in_thread(self._threads, _expired, self._folder, rows, before, among)

    async def save(self, partial: Partial) -> None:
        with no_space():
            await self._storage.catalogue.run(
                "INSERT OR REPLACE INTO uploads (id, state) VALUES (?, ?)",
                partial.id,
                partial.model_dump_json(),
            )

    async def claim(self, upload_id: str) -> Claim | None:
        """Claim an upload among all processes; None when another one has it."""
        with no_space():
            return await in_thread(self._threads, Claim.take, self._folder / f"{upload_id}.lock")

    async def release(self, claim: Claim) -> None:
        await in_thread(self._threads, claim.release)

    async def stat(self, upload_id: str) -> os.stat_result | None:
        """Return the size and age of what there is; None when not even its file is."""
        try:
            return await aiofiles.os.stat(self._path(upload_id), executor=self._threads)
        except FileNotFoundError:
            return None

    async def sizes(self) -> dict[str, int]:
        """Return how many bytes there are of every upload that has any left here."""
        return await in_thread(self._threads, _sizes, self._folder)

    async def truncate(self, upload_id: str, size: int) -> None:
        await in_thread(self._threads, os.truncate, self._path(upload_id), size)

    @asynccontextmanager
    async def open(
        self, partial: Partial, size: int, tap: Tap | None = None
    ) -> AsyncGenerator[LocalWriter]:
        """Write on at `size`, where the bytes end; what was taken is kept, however this ends."""
        path = self._path(partial.id)
        file = await complete(aiofiles.open(path, "r+b", buffering=0, executor=self._threads))
        writer = LocalWriter(self._storage, partial.id, partial.draft, path, file, tap, size)
        writer.is_file = not partial.is_part
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
            length = sum([source.stat().st_size for source in sources])
            await in_thread(self._threads, self._storage.room.check_space, length)
            await in_thread(self._storage.writers, _concatenate, target, sources)

    async def remove(self, upload_id: str) -> None:
        """Forget an upload and its bytes; a file that has become of it stays."""
        with no_space():
            await self._storage.catalogue.run("DELETE FROM uploads WHERE id = ?", upload_id)
        await in_thread(self._threads, self._path(upload_id).unlink, missing_ok=True)

    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return the file of an upload whose part is gone, if a crash came behind the rename.

        Bytes under their final name were made durable before they got it.
        """
        final = self._storage.path(partial.id)
        try:
            size = (await aiofiles.os.stat(final, executor=self._threads)).st_size
        except FileNotFoundError:
            return None
        draft = partial.draft.model_dump()
        record = FileRecord(**draft, id=partial.id, size=size, created_at=datetime.now(UTC))
        with no_space():
            await complete(self._storage.adopt(record))
        return record

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.part"


def _sizes(folder: Path) -> dict[str, int]:
    sizes = {}
    for part in folder.glob("*.part"):
        with suppress(FileNotFoundError):  # It has just become a file.
            sizes[part.stem] = part.stat().st_size
    return sizes


def _reserved(folder: Path, rows: list[tuple[object, ...]], owner: str | None) -> tuple[int, int]:
    """Return the bytes still to come of all unfinished uploads, and all bytes of one owner's."""
    sizes = _sizes(folder)
    missing = owned = 0
    for upload_id, known, of in rows:
        size = sizes.get(str(upload_id), 0)
        length = known if isinstance(known, int) else size
        missing += max(length - size, 0)
        owned += max(length, size) if of == owner else 0
    return missing, owned


def _expired(
    folder: Path, rows: list[tuple[object, ...]], before: float, among: str | None
) -> list[str]:
    found = {among} if among else {path.stem for path in folder.iterdir()}
    found -= {str(row[0]) for row in rows}
    for upload_id, completed_at in rows:
        changed_at = completed_at
        if not isinstance(changed_at, float):
            try:
                changed_at = (folder / f"{upload_id}.part").stat().st_mtime
            except FileNotFoundError:
                changed_at = created_at(str(upload_id))
        if changed_at < before:
            found.add(str(upload_id))
    return sorted(filter(is_id, found))


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
