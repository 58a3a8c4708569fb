"""Uploads in several requests: the bytes so far are kept until the upload completes or expires.

    uploads/{id}.part   the bytes so far; the offset is the size of this file
    uploads/{id}.lock   the claim of the request that works on it, and the time of the newest one

The state of an upload is a row in the database of the records, written when it changes and never
per chunk. Bytes whose digest is not verified yet start at the offset `rollback` of that row; after
a crash, the next request truncates the file to it.
"""

import asyncio
import errno
import json
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem
from ..kernel.threads import acquire, complete, in_thread
from ..streams import clock
from .claims import Claim
from .interface import Tap
from .local import LocalStorage
from .place import check_moves
from .reading import read_path
from .records import Draft, FileRecord, created_at, is_id, new_id
from .writer import HEAD, LocalWriter

#: Uploads per query: they are handled in one turn of the event loop.
PAGE = 200
#: Seconds by which the wall clock may differ from the steady clock between two sweeps.
JUMP = 600.0
#: Bytes of the state of an upload, with the headers of its creation; and more for each part.
MAX_STATE = 20 << 10
MAX_PART = 512
#: Bytes that are copied between two checks for a cancellation and for free space.
STEP = 8 << 20
#: Bytes per copy where the kernel cannot copy between files.
BLOCK = 1 << 20

logger = logging.getLogger(__name__)

_UNFINISHED = (
    "json_extract(state, '$.completed_at') IS NULL AND json_extract(state, '$.expired_at') IS NULL"
)
_OWNER, _CLIENT = "json_extract(state, '$.draft.owner')", "json_extract(state, '$.client')"
_LENGTH = "json_extract(state, '$.length')"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, state TEXT NOT NULL)",
    "DROP INDEX IF EXISTS unfinished",  # That of older versions, without the client.
    f"CREATE INDEX IF NOT EXISTS incomplete ON uploads ({_OWNER}, {_CLIENT}) WHERE {_UNFINISHED}",
    # The parts of concatenated uploads. A row is kept as long as its part, to count its uses.
    "CREATE TABLE IF NOT EXISTS wholes (part TEXT, whole TEXT, PRIMARY KEY (part, whole))"
    " WITHOUT ROWID",
)
#: Whether an upload is a part of a complete one: clients of tus do not delete their parts.
_USED = (
    "EXISTS (SELECT 1 FROM wholes JOIN uploads AS whole ON whole.id = wholes.whole"
    " WHERE part = uploads.id AND json_extract(whole.state, '$.completed_at') IS NOT NULL)"
)
#: Uploads that have not expired yet, from an id on.
_DUE = (
    "SELECT id, json_extract(state, '$.completed_at') FROM uploads"
    " WHERE json_extract(state, '$.expired_at') IS NULL AND id BETWEEN ? AND ?"
    " ORDER BY id LIMIT ?"
)


class Partial(BaseModel):
    """The state of an upload; `fields` are headers that a protocol has to repeat."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=new_id)
    draft: Draft
    #: The user or address that began it, for the limit of each; None in data of older versions.
    client: str | None = None
    length: int | None = None
    fields: dict[str, str] = {}
    rollback: int | None = None
    #: Whether the upload becomes a file as soon as it has `length` bytes.
    completes: bool = False
    #: Whether it only becomes a part of other uploads, and never a file.
    is_part: bool = False
    #: The uploads that are concatenated to this one, in order.
    parts: tuple[str, ...] = ()
    completed_at: float | None = None
    #: When its bytes were removed; the row is kept, so that its clients get 410.
    expired_at: float | None = None


class LocalPartials:
    """The unfinished uploads of one directory; several processes may share it."""

    def __init__(self, storage: LocalStorage, max_concatenations: int) -> None:
        """At most `max_concatenations` wait for their turn or are running."""
        self.storage = storage
        self._threads = storage.threads
        self._folder = storage.root / "uploads"
        self._folder.mkdir(exist_ok=True)
        self._clock = storage.root / "clock"
        check_moves(self._folder, storage.root / "parts")
        storage.place.watch(self._folder)
        for statement in _SCHEMA:
            storage.catalogue.execute(statement)
        self._max_concatenations = max_concatenations
        self._concatenations = 0
        self._turn = asyncio.Lock()
        # A thread of its own, so that a concatenation does not delay other uploads.
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="concatenation")

    async def add(self, partial: Partial) -> None:
        """Begin an upload; raises Problem 413 for the quota and 507 for the space of the disk.

        Raises Problem 431 when its headers are too long to be stored.
        """
        if len(partial.model_dump_json().encode()) > MAX_STATE + MAX_PART * len(partial.parts):
            BOUNDS["upload.max_state"] += 1
            raise Problem(431, "The metadata of the upload is too long.")
        place, length = self.storage.place, partial.length or 0
        owner = partial.draft.owner
        number, size = await self._begun(owner)
        await self.storage.check_quota(owner, length + size, number + (not partial.is_part))

        def touch() -> None:
            self._path(partial.id).touch()
            place.check()

        with place.guarding():
            await in_thread(self._threads, place.check_space, length)
            await complete(self.save(partial))
            await in_thread(self._threads, touch)

    async def _begun(self, owner: str | None) -> tuple[int, int]:
        """Return how many files the unfinished uploads of an owner will be, with how many bytes."""
        if self.storage.quota is None and self.storage.max_files is None:
            return 0, 0
        begun = (
            f"SELECT id, {_LENGTH}, json_extract(state, '$.is_part') FROM uploads"  # noqa: S608
            f" WHERE {_OWNER} IS ? AND {_UNFINISHED}"
        )
        rows = await self.storage.catalogue.read(begun, owner)
        files = await self.stats([upload_id for upload_id, length, _ in rows if length is None])
        known = sum(length or 0 for _, length, _ in rows)
        number = sum(not is_part for *_, is_part in rows)
        return number, known + sum(file.st_size for file in files.values())

    async def _select(self, condition: str, *values: object) -> list[Partial]:
        statement = f"SELECT state FROM uploads WHERE {condition}"  # noqa: S608
        rows = await self.storage.catalogue.read(statement, *values)
        return [Partial.model_validate_json(state) for (state,) in rows]

    async def load(self, upload_id: str) -> tuple[Partial | None, FileRecord | None]:
        """Return the state of an upload and the record of its file, or None for each."""
        rows = await self.storage.catalogue.read(
            "SELECT state, record FROM uploads LEFT JOIN files USING (id) WHERE id = ?", upload_id
        )
        if not rows:
            return None, None
        state, record = rows[0]
        file = FileRecord.model_validate_json(record) if record else None
        return Partial.model_validate_json(state), file

    async def count(self, like: Partial | None = None) -> int:
        """Return the number of unfinished uploads, of all clients or of the one that began `like`.

        Parts of complete uploads do not count.
        """
        statement = f"SELECT count(*) FROM uploads WHERE {_UNFINISHED} AND NOT {_USED}"  # noqa: S608
        values: tuple[str | None, ...] = ()
        if like is not None:
            statement += f" AND {_OWNER} IS ? AND {_CLIENT} = ?"
            values = like.draft.owner, like.client
        return int((await self.storage.catalogue.read(statement, *values))[0][0])

    async def use(self, partial: Partial, limit: int) -> bool:
        """Record the parts of an upload; return False if one is in `limit` uploads already."""
        parts = json.dumps(partial.parts)
        statement = (
            "INSERT INTO wholes SELECT value, ? FROM json_each(?) WHERE NOT EXISTS (SELECT 1"
            " FROM wholes WHERE part IN (SELECT value FROM json_each(?))"
            " GROUP BY part HAVING count(*) >= ?) RETURNING part"
        )
        return bool(await self.storage.catalogue.write(statement, partial.id, parts, parts, limit))

    async def waiting_for(self, part: str) -> list[Partial]:
        """Return the unfinished uploads that include this part."""
        wholes = "id IN (SELECT whole FROM wholes WHERE part = ?)"
        return await self._select(f"{wholes} AND {_UNFINISHED} ORDER BY id", part)

    async def unfinished(self, after: str) -> list[Partial]:
        """Return a page of unfinished uploads, starting after an id."""
        return await self._select(f"id > ? AND {_UNFINISHED} ORDER BY id LIMIT ?", after, PAGE)

    async def expired(self, before: float, among: str | None = None) -> list[str]:
        """Return the ids of uploads that last changed before a time, and of files without a row.

        With `among`, only this upload is checked.
        """
        read = self.storage.catalogue.read
        names = [among] if among else await in_thread(self._threads, self._names)
        found = []
        for start in range(0, len(names), PAGE):
            rows = await read(
                "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM uploads)",
                json.dumps(names[start : start + PAGE]),
            )
            found += [upload_id for (upload_id,) in rows]
        first, last = among or "", among or "~"
        while rows := await read(_DUE, first, last, PAGE):
            found += await in_thread(self._threads, self._unchanged_since, before, rows)
            first = rows[-1][0] + " "
        return sorted(found)

    def _names(self) -> list[str]:
        return sorted(filter(is_id, {path.stem for path in self._folder.iterdir()}))

    def _unchanged_since(self, before: float, rows: list[tuple[str, float | None]]) -> list[str]:
        def changed_at(upload_id: str) -> float:
            try:
                return self._path(upload_id).stat().st_mtime
            except FileNotFoundError:
                return created_at(upload_id)

        return [each for each, completed in rows if (completed or changed_at(each)) < before]

    async def save(self, partial: Partial) -> None:
        statement = "INSERT OR REPLACE INTO uploads (id, state) VALUES (?, ?)"
        await self.storage.catalogue.write(statement, partial.id, partial.model_dump_json())

    @asynccontextmanager
    async def claimed(
        self, upload_id: str, patience: float = 0, asked_at: int | None = None
    ) -> AsyncGenerator[Claim | None]:
        """Claim an upload; yield None when another holds it for more than `patience` seconds.

        With `asked_at` the holder is asked to release it, unless it works for a newer request.
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

    async def stats(self, upload_ids: Iterable[str]) -> dict[str, os.stat_result]:
        """Return the status of the file of each of these uploads that still has one here."""

        def look() -> dict[str, os.stat_result]:
            found = {}
            for upload_id in upload_ids:
                with suppress(FileNotFoundError):  # It was completed just now.
                    found[upload_id] = self._path(upload_id).stat()
            self.storage.place.check()
            return found

        return await in_thread(self._threads, look)

    async def truncate(self, upload_id: str, size: int) -> None:
        with self.storage.place.guarding():
            await in_thread(self._threads, os.truncate, self._path(upload_id), size)

    @asynccontextmanager
    async def open(
        self, partial: Partial, size: int, tap: Tap | None = None
    ) -> AsyncGenerator[LocalWriter]:
        """Append at `size`, the end of the bytes; received bytes are kept, even after an error."""
        storage, path = self.storage, self._path(partial.id)

        def begin() -> tuple[FileIO, bytes | None]:
            file = FileIO(path, "r+")
            # `accept` has seen the first bytes of longer uploads, unless they are concatenated.
            if partial.is_part or (size >= HEAD and not partial.parts):
                return file, None
            return file, file.read(min(HEAD, size))

        with storage.place.guarding():
            file, head = await acquire(self._threads, begin, lambda begun: begun[0].close())
        pool, callbacks = storage.writers, storage.callbacks
        writer = LocalWriter(
            partial.id, partial.draft, path, file, pool, callbacks, tap, size, head
        )
        try:
            yield writer
        finally:
            await complete(writer.close(keep=True))

    def read(self, upload_id: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the first `size` bytes."""
        return read_path(self._path(upload_id), 0, size, self._threads)

    async def concatenate(self, upload_id: str, parts: tuple[str, ...], size: int) -> None:
        """Copy the bytes of other uploads, `size` in all, to this one.

        Raises Problem 503 when too many concatenations are waiting, 507 when the disk is full. A
        cancellation takes effect after the current step and leaves the upload empty.
        """
        if self._concatenations >= self._max_concatenations:
            BOUNDS["upload.max_concatenations"] += 1
            headers = {"Retry-After": "5"}
            raise Problem(503, "Too many concatenations are waiting.", headers=headers)
        self._concatenations += 1
        try:
            async with self._turn:
                stop = threading.Event()
                loop = asyncio.get_running_loop()
                paths = [self._path(each) for each in (upload_id, *parts)]
                copying = loop.run_in_executor(self._copier, self._copy, paths, size, stop)
                try:
                    with self.storage.place.guarding():
                        await asyncio.shield(copying)
                except asyncio.CancelledError:
                    stop.set()
                    await complete(asyncio.wait({copying}))
                    copying.exception()  # Mark it as retrieved: this request is over.
                    raise
        finally:
            self._concatenations -= 1

    def _copy(self, paths: list[Path], size: int, stop: threading.Event) -> None:
        """Copy all paths after the first to the first; blocking."""
        place = self.storage.place
        place.check_space(size)
        with paths[0].open("wb", buffering=0) as target:
            try:
                for path in paths[1:]:
                    with path.open("rb", buffering=0) as source:
                        while _copy_step(source, target):
                            place.check_space()
                            if stop.is_set():
                                raise InterruptedError("the request was cancelled")
                if target.tell() != size:
                    raise OSError(errno.EIO, "a part is shorter than it was")
            except BaseException:
                target.truncate(0)
                raise

    async def remove(self, upload_id: str) -> None:
        """Delete an upload, but not the file that was made of it."""
        await self._drop(upload_id, "DELETE FROM uploads WHERE id = ?", upload_id)

    async def expire(self, upload_id: str) -> None:
        """Remove the bytes of an upload, but keep its row."""
        marked = (
            "UPDATE uploads SET state = json_set(json_remove(state, '$.fields',"
            " '$.draft.metadata'), '$.expired_at', ?) WHERE id = ?"
        )
        await self._drop(upload_id, marked, time.time(), upload_id)

    async def _drop(self, upload_id: str, statement: str, *values: object) -> None:
        def unlink() -> None:
            self.storage.place.check()
            self._path(upload_id).unlink(missing_ok=True)

        # The bytes go first, since on a full disk the catalogue needs their space.
        with self.storage.place.guarding():
            await in_thread(self._threads, unlink)
            await self.storage.catalogue.write(statement, *values)

    async def catch_up(self) -> None:
        """Extend the lives of uploads by a jump of the wall clock, or by the time of a reboot.

        The file `clock` has both clocks at the previous call. A jump back needs no repair.
        """
        # On a full disk the next sweep tries again.
        with suppress(Problem), self.storage.place.guarding():
            now, gap = await in_thread(self._threads, self._gap)
            if gap > JUMP:
                logger.warning("The clock jumped by %d s: uploads expire that much later", gap)
                await in_thread(self._threads, self._postpone, now - gap, gap)
                await self.storage.catalogue.write(
                    "UPDATE uploads SET state = json_set(state, '$.completed_at',"
                    " json_extract(state, '$.completed_at') + ?)"
                    " WHERE json_extract(state, '$.completed_at') <= ?",
                    gap,
                    now - gap,
                )
            await in_thread(self._threads, self._clock.write_text, f"{now} {clock.steady_time()}")

    def _gap(self) -> tuple[float, float]:
        """Return the time, and by how much the wall clock has advanced too far; blocking."""
        now, steady = time.time(), clock.steady_time()
        try:
            then, steady_then = map(float, self._clock.read_text().split())
        except (OSError, ValueError):
            return now, 0.0  # There is no file yet.
        return now, now - then - max(steady - steady_then, 0)

    def _postpone(self, before: float, gap: float) -> None:
        """Let the uploads that last changed before a time be `gap` seconds younger; blocking."""
        for path in self._folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if (changed_at := path.stat().st_mtime) <= before:
                    os.utime(path, (changed_at + gap,) * 2)

    async def forget(self, before: float) -> None:
        """Remove the rows of uploads that expired before a time."""
        write = self.storage.catalogue.write
        await write("DELETE FROM uploads WHERE json_extract(state, '$.expired_at') < ?", before)
        await write("DELETE FROM wholes WHERE part NOT IN (SELECT id FROM uploads)")

    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return the record of an upload's file after a crash between the rename and the commit.

        The bytes are durable, because they are synchronised before the rename.
        """
        try:
            stat = await in_thread(self._threads, self.storage.path(partial.id).stat)
        except FileNotFoundError:
            return None
        draft, now = partial.draft.model_dump(), datetime.now(UTC)
        record = FileRecord(**draft, id=partial.id, size=stat.st_size, created_at=now)
        await complete(self.storage.adopt(record))
        return record

    def _path(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.part"


def _copy_step(source: BinaryIO, target: BinaryIO) -> int:
    """Copy up to STEP bytes between two files; return how many, 0 at the end."""
    if hasattr(os, "copy_file_range"):
        try:  # In the kernel, and on some file systems without copying any block.
            return os.copy_file_range(source.fileno(), target.fileno(), STEP)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
    data = source.read(BLOCK)
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]
    return len(data)
