"""The keys in the bucket of the files, which all replicas share."""

import sqlite3
import sys
import threading
from contextlib import closing
from typing import Any

from ..objects.bucket import Bucket
from ..objects.database import SharedDatabase
from .database import FORMAT, TABLES, Database, Rows, Statement, bucket_of, open_database

#: Add a key; one that was revoked in the target remains revoked.
_ADD = (
    "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest)"
    " DO UPDATE SET revoked_at = coalesce(keys.revoked_at, excluded.revoked_at)"
)


class BucketDatabase:
    """The tables in this process; `version` fetches the changes of others."""

    def __init__(self, url: str, endpoint_url: str | None) -> None:
        """Fetch the tables from a bucket, `s3://name/prefix`; raises OSError."""
        self._shared = SharedDatabase(Bucket(url, endpoint_url), "access", TABLES, FORMAT)
        self._lock = threading.Lock()
        self._reader = sqlite3.connect(
            f"{self._shared.path.as_uri()}?mode=ro", uri=True, check_same_thread=False
        )

    def version(self) -> int:
        self._shared.catch_up()
        return self._shared.position

    def read(self, query: str, *values: object) -> Rows:
        with self._lock:
            return self._reader.execute(query, values).fetchall()

    def change(self, *statements: Statement) -> list[Rows]:
        return self._shared.change(*statements)

    def close(self) -> None:
        with self._lock, closing(self._shared):
            self._reader.close()


def move(source: Any, target: Any) -> int:
    """Copy the keys and secrets between two settings, for `serve move`.

    Reports each problem in a line, and returns their number.
    """
    places = [bucket_of(each) or each.access.database for each in (source, target)]
    if places[0] == places[1] or not (bucket_of(source) or source.access.database.exists()):
        return 0
    try:
        with closing(open_database(source)) as old, closing(open_database(target)) as new:
            taken = _copy(old, new)
    except (OSError, sqlite3.Error) as error:
        sys.stderr.write(f"keys: {error}\n")
        return 1
    for name in taken:
        sys.stderr.write(f"key {name}: there is another one with this name\n")
    return len(taken)


def _copy(source: Database, target: Database) -> list[str]:
    """Copy the rows; return the names that other keys have in the target."""
    keys = source.read("SELECT * FROM keys ORDER BY created_at")
    known: dict[str, bytes] = dict(target.read("SELECT name, digest FROM keys"))
    taken = [name for digest, name, *_ in keys if known.get(name, digest) != digest]
    changes: list[Statement] = [(_ADD, key) for key in keys if key[1] not in taken]
    rows = source.read("SELECT * FROM secrets")
    changes += [("INSERT OR IGNORE INTO secrets VALUES (?, ?, ?)", row) for row in rows]
    if changes:
        target.change(*changes)
    return taken
