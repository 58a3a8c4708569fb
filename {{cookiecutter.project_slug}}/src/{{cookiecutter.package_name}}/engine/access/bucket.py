"""The keys in the bucket of the files, which all replicas share."""

import sqlite3
import threading
from contextlib import closing

from ..objects.bucket import Bucket
from ..objects.database import SharedDatabase
from .database import FORMAT, TABLES, Rows, Statement


class BucketDatabase:
    """The copy of this process; other processes fetch its changes before they look at theirs."""

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
