"""The records of all files, in one SQLite database with one thread of its own.

WAL, so that readers and the writer do not wait for each other; `synchronous=FULL`, so that a
committed record survives a power cut. The order of `position` is the order of completion.
"""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from ..kernel.threads import in_thread
from .place import Place
from .records import FileRecord

#: The version of all that a directory of files holds: the tables and the JSON in them, the names
#: and places of files, unfinished uploads and claims. The database has it as its `user_version`; 0
#: is the data of 0.1.0, which is the same.
FORMAT = 1
#: Where the header of a database has it, and in how many bytes (sqlite.org/fileformat.html).
_VERSION_AT = slice(60, 64)
#: Seconds that a statement waits for other processes.
BUSY_SECONDS = 30.0
#: A page of records ends when it is so large: their metadata can be long.
PAGE_BYTES = 256 << 10
#: Records that are looked up by one statement, and made by one turn of the loop.
LOOKED_UP = 200

_OPEN = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS files (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL,
    announced INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS unannounced ON files (id) WHERE announced = 0;
CREATE INDEX IF NOT EXISTS owned ON files (
    json_extract(record, '$.owner'), json_extract(record, '$.size')
);
"""


def check_format(path: Path) -> None:
    """Raise OSError when a newer release has written the database; nothing is changed."""
    found = _format_of(path) if path.exists() else 0
    if found > FORMAT:
        raise OSError(
            f"{path.parent} is of a newer release (format {found}, this one reads up to {FORMAT});"
            " run that release, or choose another directory: nothing was changed"
        )


def _format_of(path: Path) -> int:
    if not path.with_name(path.name + "-wal").exists():
        with path.open("rb") as file:  # To open it as a database would make files beside it.
            return int.from_bytes(file.read(_VERSION_AT.stop)[_VERSION_AT])
    # The log may have a newer header than the file. A reader does not merge the two.
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, timeout=BUSY_SECONDS, uri=True)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


class Catalogue:
    """A table of FileRecords; every call is one short transaction."""

    def __init__(self, path: Path) -> None:
        """Open the database; blocking."""
        #: Of files, in this process.
        self.counts = Counter(stored=0, removed=0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalogue")
        self._database = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._open()
        self.place = Place()
        # The log has what was committed last; without its name it is lost with its last process.
        files = (path.with_name(path.name + end) for end in ("", "-wal", "-shm"))
        self.place.watch(*filter(Path.exists, files))

    def _open(self) -> None:
        # Workers start at once, and for a change of the journal's mode SQLite does not wait.
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._database.executescript(_OPEN)
                if self.execute("PRAGMA user_version") == [(0,)]:
                    self.execute(f"PRAGMA user_version = {FORMAT}")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement as one transaction; blocking, and only from one thread at a time."""
        return self._database.execute(statement, values).fetchall()

    async def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement as one transaction, in the thread."""
        return await in_thread(self._thread, self.execute, statement, *values)

    async def write(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement; raises Problem 503 when it might be lost, as the store was moved."""
        return await in_thread(self._thread, self._execute_there, statement, *values)

    def _execute_there(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        self.place.check()
        rows = self.execute(statement, *values)
        self.place.check()
        return rows

    async def add(self, record: FileRecord, *, announced: bool) -> None:
        """Add a record, unless it is there: whoever completes a file twice changes nothing."""
        rows = await self.write(
            "INSERT OR IGNORE INTO files (id, record, announced) VALUES (?, ?, ?) RETURNING id",
            record.id,
            record.model_dump_json(),
            announced,
        )
        self.counts["stored"] += len(rows)

    async def get(self, file_id: str) -> FileRecord | None:
        rows = await self.run("SELECT record FROM files WHERE id = ?", file_id)
        return _record(rows[0][0]) if rows else None

    async def find(self, file_ids: Sequence[str]) -> dict[str, FileRecord]:
        """Return the records of those files that there are, by their ids.

        Without the metadata, which can be long: nobody needs those of many files at once.
        """
        found = {}
        for start in range(0, len(file_ids), LOOKED_UP):
            rows = await self.run(
                "SELECT id, json_remove(record, '$.metadata') FROM files"
                " WHERE id IN (SELECT value FROM json_each(?))",
                json.dumps(file_ids[start : start + LOOKED_UP]),
            )
            found.update({str(row[0]): _record(row[1]) for row in rows})
        return found

    async def remove(self, file_id: str) -> FileRecord | None:
        """Remove a record and return it, if there was one."""
        rows = await self.write("DELETE FROM files WHERE id = ? RETURNING record", file_id)
        self.counts["removed"] += len(rows)
        return _record(rows[0][0]) if rows else None

    async def page(self, after: int, limit: int) -> list[tuple[int, FileRecord]]:
        """Return up to `limit` (position, record) behind the position `after`, fewer large ones."""
        rows = await in_thread(self._thread, self._page, after, limit)
        return [(position, _record(record)) for position, record in rows]

    def _page(self, after: int, limit: int) -> list[tuple[int, str]]:
        statement = (
            "SELECT position, record FROM files WHERE position > ? ORDER BY position LIMIT ?"
        )
        rows, size = [], 0
        # Closed, as one that is not read to its end would keep its transaction open.
        with closing(self._database.execute(statement, (after, limit))) as found:
            for position, record in found:
                rows.append((position, record))
                size += len(record)
                if size >= PAGE_BYTES:
                    break
        return rows

    async def unannounced(self) -> list[str]:
        """Return the ids of the files that `on_stored` has not confirmed."""
        rows = await self.run("SELECT id FROM files WHERE announced = 0")
        return [str(row[0]) for row in rows]

    async def confirm(self, file_id: str) -> None:
        await self.write("UPDATE files SET announced = 1 WHERE id = ?", file_id)

    async def stored_bytes(self, owner: str | None) -> int:
        """Return how many bytes the files of an owner have together."""
        rows = await self.run(
            "SELECT sum(json_extract(record, '$.size')) FROM files"
            " WHERE json_extract(record, '$.owner') IS ?",
            owner,
        )
        return int(str(rows[0][0] or 0))

    async def close(self) -> None:
        await in_thread(self._thread, self._database.close)
        self.place.close()
        self._thread.shutdown(wait=False)


def _record(value: object) -> FileRecord:
    return FileRecord.model_validate_json(str(value))
