"""The database of the keys: a file that all workers share, or a log in the bucket of the files.

Each change is a list of statements, so that the bucket's log can repeat it in every process.
"""

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

#: The version of the tables.
FORMAT = 1
#: Seconds to wait for another process.
BUSY_SECONDS = 10.0

TABLES = """
CREATE TABLE IF NOT EXISTS keys (
    digest BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, principal TEXT NOT NULL,
    grants TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL, revoked_at REAL
) STRICT;
CREATE TABLE IF NOT EXISTS tickets (
    digest BLOB PRIMARY KEY, key BLOB NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS secrets (
    id TEXT PRIMARY KEY, secret BLOB NOT NULL, created_at REAL NOT NULL
) STRICT;
"""
Statement = tuple[str, Sequence[object]]
Rows = list[tuple[Any, ...]]


class Database(Protocol):
    """The tables; the methods block, and raise OSError and sqlite3.Error."""

    def version(self) -> int:
        """Fetch the changes of other processes; return a number that differs after each of them."""

    def read(self, query: str, *values: object) -> Rows:
        """Return all rows of a query, which include the changes of this process."""

    def change(self, *statements: Statement) -> list[Rows]:
        """Run the statements as one transaction; return the rows of each."""

    def close(self) -> None: ...


class LocalDatabase:
    """A file that only this user can read."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it; raises OSError and sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other users of the machine may not read the secrets; a restored file may let them.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with suppress(PermissionError):
            path.chmod(0o600)
        #: SQLite would crash if a thread closed the connection while another one uses it.
        self._lock = threading.Lock()
        self._connection = connection = sqlite3.connect(
            path, BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            connection.close()
            raise OSError(f"{path} was written by a newer release")
        connection.executescript(f"PRAGMA journal_mode = WAL; {TABLES}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")

    def version(self) -> int:
        return int(self.read("PRAGMA data_version")[0][0])

    def read(self, query: str, *values: object) -> Rows:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def change(self, *statements: Statement) -> list[Rows]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                rows = [self._connection.execute(*each).fetchall() for each in statements]
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        return rows

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def bucket_of(settings: Any) -> str:
    """Return the URL of the bucket that has the keys, with the files; empty for a file."""
    url: str = getattr(getattr(settings, "storage", None), "url", "")
    return url if url.startswith("s3:") else ""


def open_database(settings: Any) -> Database:
    """Open the database that the settings name; raises OSError and sqlite3.Error."""
    url = bucket_of(settings)
    if not url:
        return LocalDatabase(settings.access.database)
    # Imported by name, as it is not generated unless it was chosen.
    module = import_module(f"{__package__}.bucket")
    shared: Database = module.BucketDatabase(url, settings.storage.endpoint_url)
    return shared
