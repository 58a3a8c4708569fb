"""The records of a directory, in an SQLite database: one connection writes, and another one reads.

With WAL, reads do not wait for a write, not even for one that another process blocks; with
`synchronous=FULL`, a committed record survives a power cut.
"""

import multiprocessing
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..kernel.threads import in_thread
from .catalogue import TABLES, Catalogue, Rows
from .place import Place, is_busy
from .records import is_id

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


class LocalCatalogue(Catalogue):
    """The catalogue of a directory."""

    def __init__(self, path: Path, place: Place) -> None:
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
