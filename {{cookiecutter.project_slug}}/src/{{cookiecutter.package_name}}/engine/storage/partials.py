"""Files that arrive in several requests: what has come is kept until the rest has, or for a time.

    uploads/{id}.part   the bytes so far; its size is the offset, whatever any record says
    uploads/{id}.lock   the claim of the request that works on it; its time is that of the newest

What is known of an upload is a row beside the records of the files, written when it changes and
never per chunk. Bytes whose digest is still to be checked are written behind the offset that the
row holds as `rollback`; a crash then leaves a tail, which the next request cuts off.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import aiofiles

from ..kernel.threads import complete, in_thread
from .claims import Claim
from .concatenation import Copier
from .interface import Tap
from .local import LocalStorage
from .partial import OWNER, SCHEMA, UNFINISHED, Partial
from .reading import read_path
from .records import FileRecord, created_at, is_id
from .writer import LocalWriter

#: Uploads that are looked at in one turn of the event loop.
PAGE = 200


class LocalPartials:
    """The unfinished uploads of one directory; several processes may share it."""

    def __init__(self, storage: LocalStorage, max_concatenations: int) -> None:
        self.storage = storage
        self._threads = storage.threads
        self._folder = storage.root / "uploads"
        self._folder.mkdir(exist_ok=True)
        storage.place.watch(self._folder)
        for statement in SCHEMA:
            storage.catalogue.execute(statement)
        self._copier = Copier(storage.room, max_concatenations)

    async def add(self, partial: Partial) -> None:
        """Begin an upload; raises Problem 413 or 507 when there is no room for it."""
        room, length = self.storage.room, partial.length or 0
        await room.check_quota(partial.draft, length + await self._begun(partial.draft.owner))
        with self.storage.place.guarding():
            await in_thread(self._threads, room.check_space, length)
            await complete(self.save(partial))
            await in_thread(self._threads, self._path(partial.id).touch)
            await in_thread(self._threads, self.storage.place.check)

    async def _begun(self, owner: str | None) -> int:
        """Return how many bytes the unfinished uploads of an owner will have."""
        if self.storage.room.quota is None:
            return 0
        rows = await self.storage.catalogue.run(
            "SELECT id, json_extract(state, '$.length') FROM uploads"  # noqa: S608
            f" WHERE {OWNER} IS ? AND {UNFINISHED}",
            owner,
        )
        return await in_thread(self._threads, self._room_of, rows)

    def _room_of(self, rows: list[tuple[object, ...]]) -> int:
        room = 0
        for upload_id, length in rows:
            room += int(str(length or 0))
            with suppress(FileNotFoundError):  # Its length may still be unknown.
                room += max(0, self._path(str(upload_id)).stat().st_size - int(str(length or 0)))
        return room

    async def load(self, upload_id: str) -> tuple[Partial | None, FileRecord | None]:
        """Return what is known of an upload, if anything, and the file that has become of it."""
        rows = await self.storage.catalogue.write(  # Else an offset may be one of another store.
            "SELECT state, record FROM uploads LEFT JOIN files USING (id) WHERE id = ?", upload_id
        )
        if not rows:
            return None, None
        state, record = rows[0]
        file = FileRecord.model_validate_json(str(record)) if record else None
        return Partial.model_validate_json(str(state)), file

    async def count(self, owner: str | None) -> tuple[int, int]:
        """Return how many uploads are unfinished: of all owners, and of this one."""
        rows = await self.storage.catalogue.run(
            f"SELECT count(*), total({OWNER} IS ?) FROM uploads WHERE {UNFINISHED}",  # noqa: S608
            owner,
        )
        return int(str(rows[0][0])), int(float(str(rows[0][1])))

    async def use(self, partial: Partial, limit: int) -> bool:
        """Note that an upload consists of others; False when one is in `limit` of them already."""
        parts = json.dumps(partial.parts)
        with self.storage.place.guarding():
            rows = await self.storage.catalogue.write(
                "INSERT INTO wholes SELECT value, ? FROM json_each(?) WHERE NOT EXISTS (SELECT 1"
                " FROM wholes WHERE part IN (SELECT value FROM json_each(?))"
                " GROUP BY part HAVING count(*) >= ?) RETURNING part",
                partial.id,
                parts,
                parts,
                limit,
            )
        return bool(rows)

    async def waiting_for(self, part: str) -> list[Partial]:
        """Return the unfinished uploads of which this is a part."""
        rows = await self.storage.catalogue.run(
            "SELECT state FROM wholes JOIN uploads ON id = whole"  # noqa: S608
            f" WHERE part = ? AND {UNFINISHED} ORDER BY id",
            part,
        )
        return [Partial.model_validate_json(str(row[0])) for row in rows]

    async def unfinished(self, after: str) -> list[Partial]:
        """Return the next unfinished uploads behind an id, a page of them."""
        rows = await self.storage.catalogue.run(
            f"SELECT state FROM uploads WHERE id > ? AND {UNFINISHED} ORDER BY id LIMIT ?",  # noqa: S608
            after,
            PAGE,
        )
        return [Partial.model_validate_json(str(row[0])) for row in rows]

    async def expired(self, before: float, among: str | None = None) -> list[str]:
        """Return the uploads that last changed before then, and what is left of lost ones."""
        rows = await self.storage.catalogue.run(
            "SELECT id, json_extract(state, '$.completed_at'), json_extract(state, '$.expired_at')"
            " FROM uploads WHERE ? IS NULL OR id = ?",
            among,
            among,
        )
        return await in_thread(self._threads, _expired, self._folder, rows, before, among)

    async def save(self, partial: Partial) -> None:
        with self.storage.place.guarding():
            await self.storage.catalogue.write(
                "INSERT OR REPLACE INTO uploads (id, state) VALUES (?, ?)",
                partial.id,
                partial.model_dump_json(),
            )

    @asynccontextmanager
    async def claimed(
        self, upload_id: str, patience: float = 0, asked_at: int | None = None
    ) -> AsyncGenerator[Claim | None]:
        """Claim an upload among all processes; None when another keeps it for `patience` s.

        With `asked_at` that one is asked to give it up, unless it works for a newer request.
        """
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

    async def stat(self, upload_id: str) -> os.stat_result | None:
        """Return the size and age of what there is; None when not even its file is."""
        try:
            return await in_thread(self._threads, self._stat, upload_id)
        except FileNotFoundError:
            return None

    async def sizes(self, partials: list[Partial]) -> dict[str, int]:
        """Return how many bytes there are of each of these uploads that has any left here."""

        def look() -> dict[str, int]:
            sizes = {}
            for partial in partials:
                with suppress(FileNotFoundError):  # It has just become a file.
                    sizes[partial.id] = self._path(partial.id).stat().st_size
            return sizes

        return await in_thread(self._threads, look)

    async def truncate(self, upload_id: str, size: int) -> None:
        with self.storage.place.guarding():
            await in_thread(self._threads, os.truncate, self._path(upload_id), size)

    @asynccontextmanager
    async def open(
        self, partial: Partial, size: int, tap: Tap | None = None
    ) -> AsyncGenerator[LocalWriter]:
        """Write on at `size`, where the bytes end; what was taken is kept, however this ends."""
        path = self._path(partial.id)
        with self.storage.place.guarding():
            opening = aiofiles.open(path, "r+b", buffering=0, executor=self._threads)
            file = await complete(opening)
        writer = LocalWriter(self.storage, partial.id, partial.draft, path, file, tap, size)
        writer.is_file = not partial.is_part
        try:
            yield writer
        finally:
            await complete(writer.close(keep=True))

    def read(self, upload_id: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the bytes so far, up to `size`."""
        return read_path(self._path(upload_id), 0, size, self.storage.threads)

    async def concatenate(self, upload_id: str, parts: tuple[str, ...], size: int) -> None:
        """Make the bytes of an upload those of others, `size` in all; they keep theirs."""
        sources = [self._path(part) for part in parts]
        with self.storage.place.guarding():
            await self._copier.copy(self._path(upload_id), sources, size)

    async def remove(self, upload_id: str) -> None:
        """Forget an upload and its bytes; a file that has become of it stays."""
        await self._drop(upload_id, "DELETE FROM uploads WHERE id = ?", upload_id)

    async def expire(self, upload_id: str) -> None:
        """Remove the bytes of an upload, and keep in mind that it was there."""
        marked = "UPDATE uploads SET state = json_set(state, '$.expired_at', ?) WHERE id = ?"
        await self._drop(upload_id, marked, time.time(), upload_id)

    async def _drop(self, upload_id: str, statement: str, *values: object) -> None:
        # First the bytes: on a full disk they make the room that the catalogue needs for the rest.
        with self.storage.place.guarding():
            await in_thread(self._threads, self._unlink, upload_id)
            await self.storage.catalogue.write(statement, *values)

    async def forget(self, before: float) -> None:
        """Remove what is still known of uploads that had expired before then."""
        with self.storage.place.guarding():
            await self.storage.catalogue.write(
                "DELETE FROM uploads WHERE json_extract(state, '$.expired_at') < ?", before
            )
            await self.storage.catalogue.write(
                "DELETE FROM wholes WHERE part NOT IN (SELECT id FROM uploads)"
            )

    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return the file of an upload whose part is gone, if a crash came behind the rename.

        Bytes under their final name were made durable before they got it.
        """
        try:
            stat = await in_thread(self._threads, self.storage.path(partial.id).stat)
        except FileNotFoundError:
            return None
        draft, now = partial.draft.model_dump(), datetime.now(UTC)
        record = FileRecord(**draft, id=partial.id, size=stat.st_size, created_at=now)
        with self.storage.place.guarding():
            await complete(self.storage.adopt(record))
        return record

    def _stat(self, upload_id: str) -> os.stat_result:
        try:
            return self._path(upload_id).stat()
        finally:
            self.storage.place.check()

    def _unlink(self, upload_id: str) -> None:
        self.storage.place.check()
        self._path(upload_id).unlink(missing_ok=True)

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.part"


def _expired(
    folder: Path, rows: list[tuple[object, ...]], before: float, among: str | None
) -> list[str]:
    found = {among} if among else {path.stem for path in folder.iterdir()}
    found -= {str(row[0]) for row in rows}
    for upload_id, completed_at, expired_at in rows:
        if expired_at is not None:
            continue
        changed_at = completed_at
        if not isinstance(changed_at, float):
            try:
                changed_at = (folder / f"{upload_id}.part").stat().st_mtime
            except FileNotFoundError:
                changed_at = created_at(str(upload_id))
        if changed_at < before:
            found.add(str(upload_id))
    return sorted(filter(is_id, found))
