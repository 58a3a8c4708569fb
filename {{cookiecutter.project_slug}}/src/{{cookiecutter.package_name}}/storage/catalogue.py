"""The records of all files, in one SQLite database with one thread of its own.

WAL, so that readers and the writer do not wait for each other; `synchronous=FULL`, so that a
committed record survives a power cut. The order of `position` is the order of completion.
"""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..streaming import in_thread
from .records import FileRecord

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
)
"""


class Catalogue:
    """A table of FileRecords; every call is one short transaction."""

    def __init__(self, path: Path) -> None:
        """Open the database; blocking."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalogue")
        self._database = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _SCHEMA):
            self._database.execute(statement)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement as one transaction; blocking, and only from one thread at a time."""
        return self._database.execute(statement, values).fetchall()

    async def add(self, record: FileRecord) -> None:
        await in_thread(
            self._thread,
            self.execute,
            "INSERT INTO files (id, record) VALUES (?, ?)",
            record.id,
            record.model_dump_json(),
        )

    async def get(self, file_id: str) -> FileRecord | None:
        rows = await in_thread(
            self._thread, self.execute, "SELECT record FROM files WHERE id = ?", file_id
        )
        return FileRecord.model_validate_json(str(rows[0][0])) if rows else None

    async def remove(self, file_id: str) -> bool:
        """Remove a record and return whether there was one."""
        rows = await in_thread(
            self._thread, self.execute, "DELETE FROM files WHERE id = ? RETURNING id", file_id
        )
        return bool(rows)

    async def page(self, after: int, limit: int) -> list[tuple[int, FileRecord]]:
        """Return up to `limit` (position, record) behind the position `after`."""
        rows = await in_thread(
            self._thread,
            self.execute,
            "SELECT position, record FROM files WHERE position > ? ORDER BY position LIMIT ?",
            after,
            limit,
        )
        return [(int(str(row[0])), FileRecord.model_validate_json(str(row[1]))) for row in rows]

    async def close(self) -> None:
        await in_thread(self._thread, self._database.close)
        self._thread.shutdown(wait=False)
