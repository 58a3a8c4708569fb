"""The records of a bucket: a database that all processes share, each of which has a copy.

A change is appended to the log of the bucket, and reads use the copy.
"""

import json
import re
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ...kernel.threads import in_thread
from ...objects.bucket import Bucket
from ...objects.database import SharedDatabase
from ..catalogue import TABLES, Catalogue, Place, Rows
from ..place import unavailable
from ..records import FileRecord

#: The version of the formats in the bucket: tables, the JSON in them, and keys.
FORMAT = 1
#: Changes that wait at the same time, and are written to the log together.
WRITERS = 32
#: Files whose bytes are removed or about to be, so that no record of them can be added any more;
#: `at` is when that was done, in seconds since 1970.
_TABLES = """
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS removed (id TEXT PRIMARY KEY, at REAL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS remove AFTER DELETE ON files
    BEGIN INSERT OR REPLACE INTO removed (id) VALUES (old.id); END;
"""
_CONDITION = re.compile(r"IF (NOT )?EXISTS (\w+)")
_ADD = """
INSERT OR IGNORE INTO files (id, record, announced) SELECT ?1, ?2, ?3
    WHERE NOT EXISTS (SELECT 1 FROM removed WHERE id = ?1) RETURNING id
"""
_UNKNOWN = """
SELECT value FROM json_each(?1)
    WHERE value NOT IN (SELECT id FROM files) AND value NOT IN (SELECT id FROM uploads)
"""


class SharedCatalogue(Catalogue):
    """The catalogue of a bucket."""

    def __init__(self, bucket: Bucket, place: Place) -> None:
        """Load the database; blocking. Raises OSError in one line."""
        self.database = SharedDatabase(bucket, "catalogue", TABLES + _TABLES, FORMAT)
        address = f"{self.database.path.absolute().as_uri()}?mode=ro"
        reader = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        super().__init__(place, reader)
        self._writing = ThreadPoolExecutor(WRITERS, thread_name_prefix="catalogue")
        #: Whether other processes may use the bucket.
        self.is_shared = False

    def execute(self, statement: str, *values: object) -> Rows:
        return self.database.change((statement, values))[0]

    def create(self, *statements: str) -> None:
        """Run statements that create something IF NOT EXISTS or drop it IF EXISTS; blocking.

        Those without an effect are not added to the log.
        """
        schema = self._reader.execute("SELECT name FROM sqlite_schema").fetchall()
        names = {name for (name,) in schema}
        for statement in statements:
            condition = _CONDITION.search(statement)
            if condition and (condition[2] in names) is not bool(condition[1]):
                self.execute(statement)

    async def write(self, statement: str, *values: object, anywhere: bool = False) -> Rows:
        def write() -> Rows:
            with self._place.guarding():
                return self.execute(statement, *values)

        return await in_thread(self._writing, write)

    async def refresh(self) -> None:
        def catch_up() -> None:
            with self._place.guarding():
                self.database.catch_up()

        if self.is_shared:
            await in_thread(self._writing, catch_up)

    async def add(self, record: FileRecord, *, announced: bool) -> None:
        """Add a record; raises Problem 503 if the bytes of the file may have been removed."""
        rows = await self.write(_ADD, record.id, record.model_dump_json(), announced)
        self.counts["stored"] += len(rows)
        if not rows and await self.get(record.id) is None:
            raise unavailable()

    async def withdraw(self, file_id: str) -> None:
        """Remove a record, also one that is not known here; none can be added any more."""
        statements = (
            ("DELETE FROM files WHERE id = ?", (file_id,)),
            ("INSERT OR REPLACE INTO removed (id) VALUES (?)", (file_id,)),
        )

        def withdraw() -> None:
            with self._place.guarding():
                self.database.change(*statements)

        await in_thread(self._writing, withdraw)

    async def unknown(self, ids: Sequence[str]) -> list[str]:
        """Return which of the ids are neither a file nor an upload."""
        return [file_id for (file_id,) in await self.read(_UNKNOWN, json.dumps(ids))]

    async def continued(self, multiparts: Sequence[str]) -> set[str]:
        """Return which of these multipart uploads belong to unfinished uploads."""
        if not await self.read("SELECT 1 FROM sqlite_schema WHERE name = 'layouts'"):
            return set()  # There are no such uploads.
        query = "SELECT multipart FROM layouts WHERE multipart IN (SELECT value FROM json_each(?))"
        return {each for (each,) in await self.read(query, json.dumps(multiparts))}

    async def ban(self, ids: Sequence[str]) -> list[str]:
        """Let no record be added of those ids that are unknown; return these."""
        statement = f"INSERT OR REPLACE INTO removed (id) {_UNKNOWN} RETURNING id"
        return [file_id for (file_id,) in await self.write(statement, json.dumps(ids))]

    async def removed(self) -> list[str]:
        """Return the files whose bytes may still exist."""
        return [
            file_id for (file_id,) in await self.read("SELECT id FROM removed WHERE at IS NULL")
        ]

    async def confirm_removal(self, ids: Sequence[str]) -> None:
        """Note that the bytes of these files do not exist any more."""
        await self.write(
            "UPDATE removed SET at = ? WHERE id IN (SELECT value FROM json_each(?))",
            time.time(),
            json.dumps(ids),
        )

    async def forget_removed(self, before: float) -> None:
        """Delete the rows of files that were removed before a time."""
        if await self.read("SELECT 1 FROM removed WHERE at < ? LIMIT 1", before):
            await self.write("DELETE FROM removed WHERE at < ?", before)

    async def check(self) -> Exception | None:
        return None

    async def close(self) -> None:
        await super().close()
        await in_thread(self._writing, self.database.close)
        self._writing.shutdown(wait=False)
