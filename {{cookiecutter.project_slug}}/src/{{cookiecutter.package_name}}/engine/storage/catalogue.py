"""The records of all files, in an SQLite database: the queries of every store.

The order of `position` is the order of completion. Where the changes go is up to the store: a
directory has the database itself (`local_catalogue`), a bucket has a log of the changes.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from typing import Any, Protocol

from ..kernel.threads import in_thread
from .records import FileRecord

#: Bytes after which a page of records ends, since their metadata can be long.
PAGE_BYTES = 256 << 10
#: Records per lookup: they are validated in one turn of the event loop.
LOOKED_UP = 200
Rows = list[tuple[Any, ...]]

TABLES = """
CREATE TABLE IF NOT EXISTS files (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL,
    announced INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS unannounced ON files (id) WHERE announced = 0;
DROP INDEX IF EXISTS owned;
CREATE INDEX IF NOT EXISTS listed ON files (
    json_extract(record, '$.owner'), position, json_extract(record, '$.size')
);
"""
#: The columns with an owner, by table.
_OWNERS = {"files": ("record", "$.owner"), "uploads": ("state", "$.draft.owner")}


class Place(Protocol):
    """Where a store is: whether it can be used."""

    def is_up(self) -> bool:
        """Whether the last check and all writes since have succeeded; no I/O."""

    def check(self) -> None:
        """Raise Problem 503 when the store is not where it was; blocking."""

    def check_space(self, size: int = 0) -> None:
        """Raise Problem 507 when there is no space for `size` more bytes; blocking."""

    def guarding(self) -> AbstractContextManager[None]:
        """Turn the errors of the store into Problem 503 or 507."""


class Catalogue(ABC):
    """A table of FileRecords; every call is one short transaction."""

    def __init__(self, place: Place, reader: sqlite3.Connection) -> None:
        """`reader` is a connection that only one thread at a time uses."""
        #: Files that this process has stored and removed.
        self.counts = Counter(stored=0, removed=0)
        self._place = place
        self._reader = reader
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="catalogue-reader")

    @abstractmethod
    def execute(self, statement: str, *values: object) -> Rows:
        """Run one statement as one transaction; blocking."""

    @abstractmethod
    async def write(self, statement: str, *values: object, anywhere: bool = False) -> Rows:
        """Run one statement as one transaction; raises Problem 503 or 507.

        Unless it may run `anywhere`, also if a moved store may have lost the change.
        """

    @abstractmethod
    async def check(self) -> Exception | None:
        """Return an error if records are missing, or cannot be read."""

    @abstractmethod
    async def refresh(self) -> None:
        """Apply the changes that other processes have made before this call."""

    async def read(self, query: str, *values: object) -> Rows:
        """Return all rows of a query; raises Problem 503 if the catalogue cannot be read."""
        return await in_thread(self._reading, self._read, query, *values)

    def _read(self, query: str, *values: object) -> Rows:
        with self._place.guarding():
            rows = self._reader.execute(query, values).fetchall()
        if not rows:  # The store may have been moved, or have lost its records.
            self._place.check()
        return rows

    async def add(self, record: FileRecord, *, announced: bool) -> None:
        """Add a record; a record that exists already is kept."""
        rows = await self.write(
            "INSERT OR IGNORE INTO files (id, record, announced) VALUES (?, ?, ?) RETURNING id",
            record.id,
            record.model_dump_json(),
            announced,
        )
        self.counts["stored"] += len(rows)

    async def get(self, file_id: str) -> FileRecord | None:
        rows = await self.read("SELECT record FROM files WHERE id = ?", file_id)
        return _record(rows[0][0]) if rows else None

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        """Return the records of the given files that exist, by id and without metadata."""
        found = {}
        for start in range(0, len(file_ids), LOOKED_UP):
            rows = await self.read(
                "SELECT id, json_remove(record, '$.metadata') FROM files"
                " WHERE id IN (SELECT value FROM json_each(?))",
                json.dumps(file_ids[start : start + LOOKED_UP]),
            )
            found.update({file_id: _record(record) for file_id, record in rows})
        return found

    async def remove(self, file_id: str) -> FileRecord | None:
        """Remove a record and return it, if there was one."""
        rows = await self.write("DELETE FROM files WHERE id = ? RETURNING record", file_id)
        self.counts["removed"] += len(rows)
        return _record(rows[0][0]) if rows else None

    async def page(
        self, after: int, limit: int, owner: str | None = None
    ) -> list[tuple[int, FileRecord]]:
        """Return (position, record) after the position `after`: up to `limit`, or PAGE_BYTES.

        With `owner`, only those of this owner.
        """
        rows = await in_thread(self._reading, self._page, after, limit, owner)
        return [(position, _record(record)) for position, record in rows]

    def _page(self, after: int, limit: int, owner: str | None) -> Rows:
        own = "" if owner is None else "json_extract(record, '$.owner') = :owner AND "
        query = (
            f"SELECT position, record FROM files WHERE {own}position > :after"  # noqa: S608
            " ORDER BY position LIMIT :limit"
        )
        values = {"owner": owner, "after": after, "limit": limit}
        rows, size = [], 0
        # A cursor that is neither exhausted nor closed would keep its transaction open.
        with self._place.guarding(), closing(self._reader.execute(query, values)) as found:
            for row in found:
                rows.append(row)
                size += len(row[1])
                if size >= PAGE_BYTES:
                    break
        return rows

    async def unannounced(self) -> list[str]:
        """Return the ids of the files that `on_stored` has not confirmed."""
        rows = await self.read("SELECT id FROM files WHERE announced = 0")
        return [file_id for (file_id,) in rows]

    async def confirm(self, file_id: str) -> None:
        await self.write("UPDATE files SET announced = 1 WHERE id = ?", file_id)

    async def keep_crc32(self, values: Mapping[str, int]) -> None:
        await self.write(
            "UPDATE files SET record = json_set(record, '$.crc32', each.value)"
            " FROM json_each(?) AS each WHERE files.id = each.key",
            json.dumps(dict(values)),
        )

    async def stored_by(self, owner: str | None) -> tuple[int, int]:
        """Return the number of an owner's files, and their total size."""
        [(number, size)] = await self.read(
            "SELECT count(*), total(json_extract(record, '$.size')) FROM files"
            " WHERE json_extract(record, '$.owner') IS ?",
            owner,
        )
        return number, int(size)

    def lacks_owners(self) -> bool:
        """Whether a file or an upload has no owner; blocking."""
        found = "SELECT 1 FROM {} WHERE json_extract({}, '{}') IS NULL LIMIT 1"
        queries = [found.format(*each) for each in self._owned()]
        return any(self._reader.execute(query).fetchall() for query in queries)

    def adopt(self, owner: str) -> None:
        """Give the files and uploads that have no owner to this one; blocking."""
        change = (
            "UPDATE {0} SET {1} = json_set({1}, '{2}', ?) WHERE json_extract({1}, '{2}') IS NULL"
        )
        for each in self._owned():
            self.execute(change.format(*each), owner)

    def _owned(self) -> list[tuple[str, str, str]]:
        """Return the tables that exist, with the columns and the places of the owners."""
        query = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        tables = self._reader.execute(query).fetchall()
        return [(name, *_OWNERS[name]) for (name,) in tables if name in _OWNERS]

    async def close(self) -> None:
        await in_thread(self._reading, self._reader.close)
        self._reading.shutdown(wait=False)


def _record(text: str) -> FileRecord:
    return FileRecord.model_validate_json(text)
