"""The records of a bucket: a database that all processes share, each of which has a copy.

A change is appended to the log of the bucket, and reads use the copy.
"""

import asyncio
import sqlite3
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
#: Files whose records were removed, or must not be added any more, since their bytes are removed or
#: about to be; `at` is the time of the sweep that has removed them.
_TABLES = f"""
{TABLES}
CREATE TABLE IF NOT EXISTS removed (id TEXT PRIMARY KEY, at REAL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS remove AFTER DELETE ON files
    BEGIN INSERT OR REPLACE INTO removed (id) VALUES (old.id); END;
"""
_ADD = """
INSERT OR IGNORE INTO files (id, record, announced) SELECT ?1, ?2, ?3
    WHERE NOT EXISTS (SELECT 1 FROM removed WHERE id = ?1) RETURNING id
"""


class SharedCatalogue(Catalogue):
    """The catalogue of a bucket."""

    def __init__(self, bucket: Bucket, place: Place) -> None:
        """Load the database; blocking. Raises OSError in one line."""
        self.database = SharedDatabase(bucket, "catalogue", _TABLES, FORMAT)
        address = f"{self.database.path.absolute().as_uri()}?mode=ro"
        reader = sqlite3.connect(
            address, uri=True, isolation_level=None, check_same_thread=False
        )
        super().__init__(place, reader)
        self._writing = ThreadPoolExecutor(WRITERS, thread_name_prefix="catalogue")
        #: Whether other processes may use the bucket.
        self.is_shared = False
        self._refreshing = asyncio.Lock()
        #: How often a refresh was asked for, and the last request that was served.
        self._asked = self._served = 0

    def execute(self, statement: str, *values: object) -> Rows:
        return self.database.change((statement, values))[0]

    async def write(self, statement: str, *values: object, anywhere: bool = False) -> Rows:
        def write() -> Rows:
            with self._place.guarding():
                return self.execute(statement, *values)

        return await in_thread(self._writing, write)

    async def refresh(self) -> None:
        if self.is_shared:
            asked = self._asked = self._asked + 1
            async with self._refreshing:  # Requests that wait here are served together.
                if self._served < asked:
                    served = self._asked
                    await self.catch_up()
                    self._served = served

    async def catch_up(self) -> None:
        """Apply the changes of other processes; raises Problem 503."""

        def catch_up() -> None:
            with self._place.guarding():
                self.database.catch_up()

        await in_thread(self._writing, catch_up)

    async def add(self, record: FileRecord, *, announced: bool) -> None:
        """Add a record; raises Problem 503 if the bytes of the file may have been removed."""
        rows = await self.write(_ADD, record.id, record.model_dump_json(), announced)
        self.counts["stored"] += len(rows)
        if not rows and await self.get(record.id) is None:
            raise unavailable()

    async def check(self) -> Exception | None:
        return None

    async def close(self) -> None:
        await super().close()
        await in_thread(self._writing, self.database.close)
        self._writing.shutdown(wait=False)
