"""Uploads in several requests: their state, which every store keeps in the database of the records.

It is written when it changes and never per chunk. Bytes whose digest is not verified yet start at
the offset `rollback` of it; after a crash, the next request removes them.
"""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem
from .base import BaseStorage
from .interface import Tap, Writer
from .records import Draft, FileRecord, created_at, new_id

#: Uploads per query: they are handled in one turn of the event loop.
PAGE = 200
#: Bytes of the state of an upload, with the headers of its creation; and more for each part.
MAX_STATE = 20 << 10
MAX_PART = 512

_UNFINISHED = (
    "json_extract(state, '$.completed_at') IS NULL AND json_extract(state, '$.expired_at') IS NULL"
)
_OWNER, _CLIENT = "json_extract(state, '$.draft.owner')", "json_extract(state, '$.client')"
_LENGTH = "json_extract(state, '$.length')"
SCHEMA = (
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


class Received(NamedTuple):
    """How many bytes of an upload were received, and when the last ones, in seconds since 1970."""

    size: int
    changed_at: float


class Claim(Protocol):
    """The exclusive right to work on an upload."""

    def is_wanted(self) -> bool:
        """Whether a newer request of any process asks for it."""


class Partials(ABC):
    """The unfinished uploads of a store; several processes may share it."""

    #: Seconds for which the sweep waits for a busy upload.
    sweep_patience = 0.3

    def __init__(self, storage: BaseStorage, max_concatenations: int) -> None:
        """Create the tables; blocking. At most `max_concatenations` wait or are running."""
        self.storage = storage
        self._max_concatenations = max_concatenations
        self._concatenations = 0
        self._turn = asyncio.Lock()
        self._create_tables()

    def _create_tables(self) -> None:
        for statement in SCHEMA:
            self.storage.catalogue.execute(statement)

    async def add(self, partial: Partial) -> None:
        """Begin an upload; raises Problem 413 for the quota and 507 for the space of the disk.

        Raises Problem 431 when its headers are too long to be stored.
        """
        if len(partial.model_dump_json().encode()) > MAX_STATE + MAX_PART * len(partial.parts):
            BOUNDS["upload.max_state"] += 1
            raise Problem(431, "The metadata of the upload is too long.")
        length, owner = partial.length or 0, partial.draft.owner
        number, size = await self._begun(owner)
        await self.storage.check_owner(owner, length + size, number + (not partial.is_part))
        with self.storage.place.guarding():
            await self._begin(partial)

    @abstractmethod
    async def _begin(self, partial: Partial) -> None:
        """Save the state of an upload, and make room for its bytes."""

    async def _begun(self, owner: str | None) -> tuple[int, int]:
        """Return how many files the unfinished uploads of an owner will be, with how many bytes."""
        if self.storage.quota is None and self.storage.max_files is None:
            return 0, 0
        begun = (
            f"SELECT id, {_LENGTH}, json_extract(state, '$.is_part') FROM uploads"  # noqa: S608
            f" WHERE {_OWNER} IS ? AND {_UNFINISHED}"
        )
        rows = await self.storage.catalogue.read(begun, owner)
        received = await self.received(
            [upload_id for upload_id, length, _ in rows if length is None]
        )
        known = sum(length or 0 for _, length, _ in rows)
        number = sum(not is_part for *_, is_part in rows)
        return number, known + sum(each.size for each in received.values())

    async def _select(self, condition: str, *values: object) -> list[Partial]:
        statement = f"SELECT state FROM uploads WHERE {condition}"  # noqa: S608
        rows = await self.storage.catalogue.read(statement, *values)
        return [Partial.model_validate_json(state) for (state,) in rows]

    async def load(self, upload_id: str) -> tuple[Partial | None, FileRecord | None]:
        """Return the state of an upload and the record of its file, or None for each."""
        await self.storage.catalogue.refresh()
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

    def due(self, page: list[Partial], last: float, now: float) -> list[Partial]:
        """Return the uploads that a sweep has to look at, since they may be complete.

        `last` is the time of the sweep before this one, 0 if there was none.
        """
        return [partial for partial in page if partial.completes]

    async def save(self, partial: Partial) -> None:
        statement = "INSERT OR REPLACE INTO uploads (id, state) VALUES (?, ?)"
        await self.storage.catalogue.write(statement, partial.id, partial.model_dump_json())

    async def expired(self, before: float, among: str | None = None) -> list[str]:
        """Return the ids of uploads that last changed before a time, and of bytes without a row.

        With `among`, only this upload is checked.
        """
        names = [among] if among else await self._names()
        found = []
        for start in range(0, len(names), PAGE):
            rows = await self.storage.catalogue.read(
                "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM uploads)",
                json.dumps(names[start : start + PAGE]),
            )
            found += [upload_id for (upload_id,) in rows]
        first, last = among or "", among or "~"
        while rows := await self.storage.catalogue.read(_DUE, first, last, PAGE):
            found += await self._unchanged_since(before, rows)
            first = rows[-1][0] + " "
        return sorted(found)

    async def _unchanged_since(
        self, before: float, rows: list[tuple[str, float | None]]
    ) -> list[str]:
        received = await self.received([upload_id for upload_id, _ in rows])

        def changed_at(upload_id: str) -> float:
            found = received.get(upload_id)
            return found.changed_at if found else created_at(upload_id)

        return [each for each, completed in rows if (completed or changed_at(each)) < before]

    @abstractmethod
    async def _names(self) -> list[str]:
        """Return the ids of which the store has bytes that are no file yet."""

    @abstractmethod
    async def received(self, upload_ids: Iterable[str]) -> dict[str, Received]:
        """Return the received bytes of each of these uploads that is no file yet."""

    @abstractmethod
    def claimed(
        self, upload_id: str, patience: float = 0, asked_at: int | None = None
    ) -> AbstractAsyncContextManager[Claim | None]:
        """Claim an upload; yield None when another holds it for more than `patience` seconds.

        With `asked_at` the holder is asked to release it, unless it works for a newer request.
        """

    @abstractmethod
    async def truncate(self, upload_id: str, size: int) -> None:
        """Remove the bytes after the first `size`."""

    @abstractmethod
    def open(
        self, partial: Partial, size: int, tap: Tap | None = None
    ) -> AbstractAsyncContextManager[Writer]:
        """Append at `size`, the end of the bytes; received bytes are kept, even after an error."""

    @abstractmethod
    def read(self, upload_id: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the first `size` bytes."""

    @abstractmethod
    async def concatenate(self, upload_id: str, parts: tuple[str, ...], size: int) -> None:
        """Copy the bytes of other uploads, `size` in all, to this one.

        Raises Problem 503 when too many concatenations are waiting, 507 when the disk is full. A
        cancellation takes effect after the current step and leaves the upload empty.
        """

    @asynccontextmanager
    async def _concatenating(self) -> AsyncGenerator[None]:
        """Wait for a turn; raises Problem 503 when too many concatenations are waiting."""
        if self._concatenations >= self._max_concatenations:
            BOUNDS["upload.max_concatenations"] += 1
            headers = {"Retry-After": "5"}
            raise Problem(503, "Too many concatenations are waiting.", headers=headers)
        self._concatenations += 1
        try:
            async with self._turn:
                yield
        finally:
            self._concatenations -= 1

    @abstractmethod
    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return the record of an upload whose file a crash has left without one."""

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
        # The bytes go first, since on a full disk the catalogue needs their space.
        with self.storage.place.guarding():
            await self._remove_bytes(upload_id)
            await self.storage.catalogue.write(statement, *values)

    @abstractmethod
    async def _remove_bytes(self, upload_id: str) -> None:
        """Remove the received bytes, but not the file that was made of them."""

    async def forget(self, before: float) -> None:
        """Remove the rows of uploads that expired before a time."""
        write = self.storage.catalogue.write
        await write("DELETE FROM uploads WHERE json_extract(state, '$.expired_at') < ?", before)
        await write("DELETE FROM wholes WHERE part NOT IN (SELECT id FROM uploads)")

    @abstractmethod
    async def catch_up(self) -> None:
        """Extend the lives of uploads by a jump of the wall clock."""


def open_partials(storage: BaseStorage, max_concatenations: int) -> Partials:
    """Open the unfinished uploads of a store; blocking.

    At most `max_concatenations` wait for their turn or are running.
    """
    # Imported by name, as each store has its own, and is only generated if it was chosen.
    module = import_module(storage.partials_module, __package__)
    opened: Partials = module.open_partials(storage, max_concatenations)
    return opened
