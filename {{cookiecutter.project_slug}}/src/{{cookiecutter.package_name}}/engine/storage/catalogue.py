"""The records of all files, in an SQLite database: the queries of every store.

The order of `position` is the order of completion. The changes of a directory are made in the
database: one connection writes, and another one reads. With WAL, reads do not wait for a write, not
even for one that another process blocks; with `synchronous=FULL`, a committed record survives a
power cut. A bucket has a log of the changes.
"""

import json
import multiprocessing
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..kernel.threads import in_thread
from .place import Place as LocalPlace, is_busy
from .records import FileRecord, is_id

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


#: The version of the formats in the directory: tables, the JSON in them, paths, unfinished uploads
#: and claims. It is the `user_version` of the database; 0 is the data of 0.1.0, which is the same.
FORMAT = 1
#: The bytes of the version in the header of a database (sqlite.org/fileformat.html).
_VERSION_AT = slice(60, 64)
#: The variable in which `serve` passes the path of the existing database to its workers.
CREATED = "STREAMING_CATALOGUE"
#: Seconds that the start and a change wait for other processes.
BUSY_SECONDS = 30.0
WRITE_SECONDS = 10.0
_OPEN = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
{TABLES}
"""
#: The highest position so far, and whether there are no records.
_STATE = """
SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'files'), 0),
    NOT EXISTS (SELECT 1 FROM files)
"""
#: A resumable upload whose bytes have moved, and whose record is still to be added.
_COMPLETING = """
SELECT 1 FROM uploads WHERE id = ? AND json_extract(state, '$.completed_at') IS NULL
"""


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


class LocalCatalogue(Catalogue):
    """The catalogue of a directory."""

    def __init__(self, path: Path, place: LocalPlace) -> None:
        """Open the database; blocking."""
        options: Any = {"isolation_level": None, "check_same_thread": False}
        connect = partial(sqlite3.connect, path, timeout=BUSY_SECONDS, **options)
        self._database = connect()
        super().__init__(place, connect())
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="catalogue")
        self._folder = path.parent
        self._position = 0
        try:
            self._open()
            self._reader.execute("PRAGMA query_only = ON")
            self._check()
        except BaseException:
            self._reader.close()
            self._database.close()
            raise
        # The write-ahead log contains the last commits; if its file is removed, a restart loses
        # them.
        files = (path.with_name(path.name + end) for end in ("", "-wal", "-shm"))
        place.watch(*filter(Path.exists, files))

    def _open(self) -> None:
        # Several workers start at once, and SQLite does not wait to change the journal's mode.
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._database.executescript(_OPEN)
                if self.execute("PRAGMA user_version") == [(0,)]:
                    self.execute(f"PRAGMA user_version = {FORMAT}")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def execute(self, statement: str, *values: object) -> Rows:
        """Run one statement as one transaction; blocking, only from one thread at a time."""
        return self._database.execute(statement, values).fetchall()

    async def write(self, statement: str, *values: object, anywhere: bool = False) -> Rows:
        """Run one statement as one transaction; raises Problem 503 after WRITE_SECONDS of a lock.

        The seconds include those in which other changes have their turn. Raises Problem 503 or 507
        for errors of the disk, too, and unless it may run `anywhere`, if a moved store may have
        lost the change.
        """
        give_up_at = time.monotonic() + WRITE_SECONDS

        def write() -> Rows:
            if not anywhere:
                self._place.check()
            rest = max(give_up_at - time.monotonic(), 0)  # Without any, there is one try.
            with self._place.guarding():
                self._database.execute(f"PRAGMA busy_timeout = {rest * 1000:.0f}")
                rows = self.execute(statement, *values)
            if not anywhere:
                self._place.check()
            return rows

        return await in_thread(self._writing, write)

    async def refresh(self) -> None:
        """Do nothing, as all processes use the same database."""

    async def check(self) -> Exception | None:
        """Return an error if records are missing, or cannot be read."""
        try:
            await in_thread(self._reading, self._check)
        except (OSError, sqlite3.DatabaseError) as error:
            return None if is_busy(error) else error
        return None

    def _check(self) -> None:
        """Raise OSError if the database was emptied, or replaced by an older one; blocking."""
        [(position, is_empty)] = self._reader.execute(_STATE)
        if position < self._position or (is_empty and self._has_files()):
            raise OSError(
                f"{self._folder} has files whose records are missing in catalogue.sqlite3;"
                " restore it from a backup, or move `files` away: nothing was changed"
            )
        self._position = position

    def _has_files(self) -> bool:
        """Whether there is a file that is neither recorded nor claimed."""
        for path in (self._folder / "files").glob("*/*"):
            # In this order, as another process may store or delete the file in the meantime.
            if is_id(path.name) and not self._is_claimed(path.name):
                [(_, is_empty)] = self._reader.execute(_STATE)
                return is_empty and not self._is_claimed(path.name) and path.exists()
        return False

    def _is_claimed(self, file_id: str) -> bool:
        with suppress(sqlite3.OperationalError):  # There is no such table without such uploads.
            if self._reader.execute(_COMPLETING, (file_id,)).fetchone():
                return True
        folders = self._folder / "parts", self._folder / "uploads"
        return any((folder / f"{file_id}.lock").exists() for folder in folders)

    async def close(self) -> None:
        # The writer last, as it merges its log into the database.
        await super().close()
        await in_thread(self._writing, self._database.close)
        self._writing.shutdown(wait=False)


def check_format(path: Path) -> None:
    """Raise OSError when a newer release has written the database; nothing is changed."""
    if not path.exists():
        is_worker = multiprocessing.parent_process() is not None
        if is_worker and os.environ.get(CREATED) == str(path.absolute()):
            raise OSError(f"{path} is missing")
        return
    if path.with_name(path.name + "-wal").exists():
        # The log may have a newer header than the file. A read-only connection does not merge them.
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, timeout=BUSY_SECONDS, uri=True)) as database:
            found = int(database.execute("PRAGMA user_version").fetchone()[0])
    else:
        with path.open("rb") as file:  # A connection would create files next to it.
            found = int.from_bytes(file.read(_VERSION_AT.stop)[_VERSION_AT])
    if found > FORMAT:
        raise OSError(
            f"{path.parent} has data of a newer release (format {found}, this one reads up to"
            f" {FORMAT}); run that release, or choose another directory: nothing was changed"
        )


def _record(text: str) -> FileRecord:
    return FileRecord.model_validate_json(text)
