"""An SQLite database that several processes share through a bucket.

Every process has a copy in a temporary directory. The log in the bucket has all changes, as SQL
with values, in one order: a number belongs to the process whose conditional write creates its
object (If-None-Match, RFC 9110, section 13.1.2). As all processes run all statements in this order,
all copies are equal. Statements must therefore be deterministic: no times, and no random numbers.

    NAME/log/{number}         changes, as JSON: those that waited at the same time
    NAME/snapshots/{number}   the database after this entry, compressed

A process that was suspended could miss entries that are deleted already, and write them again. It
detects that by the server's clock: no entry is deleted before KEPT_SECONDS.
"""

import base64
import gzip
import io
import json
import logging
import secrets
import shutil
import sqlite3
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .bucket import Bucket, BucketError, Entry

_log = logging.getLogger(__name__)

#: Entries between two snapshots.
SNAPSHOT_EVERY = 1000
#: Seconds after which an entry may be deleted that two snapshots contain.
KEPT_SECONDS = 3600.0
#: Changes that are written as one entry, and entries that are read at a time at the start.
MOST_CHANGES = 500
READERS = 8
#: Primary result codes of the errors that a statement has in every copy (sqlite.org/rescode.html):
#: ERROR, TOOBIG, CONSTRAINT, MISMATCH, RANGE. Others are errors of this copy, such as a full disk.
_OF_STATEMENTS = {1, 18, 19, 20, 25}
_DAMAGES = (
    *(ValueError, TypeError, KeyError, EOFError, zlib.error, gzip.BadGzipFile),
    sqlite3.DatabaseError,
)
Statement = tuple[str, Sequence[object]]
Rows = list[tuple[Any, ...]]


class _Change:
    """Statements of a caller, which become one transaction."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        """Raises TypeError for values that SQLite does not have."""
        self.statements, self.data = statements, _encoded(statements)
        self.rows: list[Rows] = []
        self.error: Exception | None = None


class SharedDatabase:
    """A database below `name` in a bucket. All methods block, and may be called in all threads."""

    def __init__(self, bucket: Bucket, name: str, schema: str, version: int) -> None:
        """Load the database. Raises OSError if the bucket has data of a newer version (>= 1)."""
        self._bucket, self._name, self._schema, self._version = bucket, name, schema, version
        #: The number of the newest entry in the copy.
        self.position = 0
        #: A time of the server at which the log ended at `position`, or had a next entry.
        self._proved = 0.0
        self._waiting: deque[_Change] = deque()
        self._begun = self._done = 0  # Rounds that end with the newest entry.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._snapshots = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-snapshots")
        self._snapshot: Future[None] = self._snapshots.submit(lambda: None)
        self._folder = TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)
        #: The copy, with write-ahead log: other connections may read it.
        self.path = Path(self._folder.name, f"{name}.sqlite3")
        self._database = self._connect(self.path)
        try:
            self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")
            self._create()
            self._prove_conditional()
            self._load()
            self._replay()
            self._follow()
        except BaseException:
            self.close()
            raise

    def catch_up(self) -> bool:
        """Apply the entries that other processes have written; return whether there were any.

        Calls that wait together share one request. Raises BucketError.
        """
        return self._worker.submit(self._catch_up, self._begun, self.position).result()

    def change(self, *statements: Statement) -> list[Rows]:
        """Run statements as one transaction of all copies, and return the rows of each.

        Changes that wait together are one entry. Raises the errors of sqlite3; then nothing was
        changed. After BucketError, the changes may be applied later.
        """
        change = _Change(statements)
        self._waiting.append(change)
        self._worker.submit(self._write_waiting).result()
        if change.error:
            raise change.error
        return change.rows

    def close(self) -> None:
        """Wait for the changes and for a snapshot that is being written, and delete the copy."""
        self._worker.shutdown()
        self._snapshots.shutdown()
        self._database.close()
        self._folder.cleanup()

    def _catch_up(self, begun: int, position: int) -> bool:
        if self._done <= begun:
            self._begun += 1
            self._follow()
            self._done = self._begun
        return self.position > position

    def _write_waiting(self) -> None:
        most = min(len(self._waiting), MOST_CHANGES)
        batch = [self._waiting.popleft() for _ in range(most)]
        if not batch:
            return
        self._begun += 1
        try:
            self._append(batch)
        except Exception as error:
            for each in batch:
                each.error = error
        else:
            self._done = self._begun

    def _append(self, batch: list[_Change]) -> None:
        while True:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for each in batch:
                    self._try(each)
                valid = [each.data for each in batch if not each.error]
                if valid and self._write(b",".join(valid)):
                    self._database.commit()
                    self._advance()
                    return
            finally:
                self._database.rollback()
            # Another process has been faster, or the errors may result from an old copy.
            position = self.position
            self._follow()
            if not valid and self.position == position:
                return

    def _try(self, change: _Change) -> None:
        """Run a change; errors of its statements undo it alone."""
        change.error = None
        self._database.execute("SAVEPOINT one")
        try:
            change.rows = self._run(change.statements)
        except Exception as error:
            if getattr(error, "sqlite_errorcode", 1) & 0xFF not in _OF_STATEMENTS:
                raise
            change.error = error
            self._database.execute("ROLLBACK TO one")
        self._database.execute("RELEASE one")

    def _run(self, statements: Sequence[Statement]) -> list[Rows]:
        return [self._database.execute(sql, values).fetchall() for sql, values in statements]

    def _write(self, changes: bytes) -> bool:
        """Write the next entry; False if it is another process's, or may not exist yet."""
        time, key = self._bucket.now, self._key("log", self.position + 1)
        start = _encoded({"version": self._version, "nonce": secrets.token_hex(8)})
        data = start[:-1] + b',"changes":[' + changes + b"]}"
        for is_last in (False, True):
            try:
                is_mine = self._bucket.put_new(key, data)
            except BucketError as error:
                if is_last or not error.is_temporary:
                    raise
                is_mine = False
            # A request may have been successful although its response was lost.
            found = data if is_mine else self._bucket.get(key)
            if found is not None:
                break
        if found != data:
            return False
        if self._is_outdated():
            self._bucket.delete(key)  # The log had this number already; no process reads it there.
            return False
        self._proved = time
        return True

    def _follow(self) -> None:
        """Apply all further entries."""
        while True:
            time = self._bucket.now
            data = self._bucket.get(self._key("log", self.position + 1))
            if self._is_outdated():
                self._load()
                continue
            self._proved = time
            if data is None:
                return
            self._apply(data)

    def _apply(self, data: bytes) -> None:
        try:
            with self._reading(self._key("log", self.position + 1)):
                entry = _decoded(data)
                self._check(entry["version"])
                self._database.execute("BEGIN IMMEDIATE")
                for statements in entry["changes"]:
                    self._run(statements)
                self._database.commit()
        finally:
            self._database.rollback()
        self.position += 1

    def _replay(self) -> None:
        """Apply the entries after the snapshot, several requests at a time."""
        log = self._bucket.list(self._key("log/"), self._key("log", self.position))
        with ThreadPoolExecutor(READERS) as pool:
            for key, data in pool.map(lambda each: (each.key, self._bucket.get(each.key)), log):
                if data is None or key != self._key("log", self.position + 1):
                    break
                self._apply(data)

    def _is_outdated(self) -> bool:
        """Whether an entry that follows the copy may have been deleted."""
        if self._bucket.now - self._proved < KEPT_SECONDS / 2:
            return False
        newest = self._newest()
        return newest is not None and _number(newest.key) > self.position

    def _newest(self) -> Entry | None:
        entries = list(self._bucket.list(self._key("snapshots/")))
        return entries[-1] if entries else None

    def _load(self) -> None:
        """Replace the copy by the newest snapshot; open connections read the new content then."""
        time, newest = self._bucket.now, self._newest()
        data = self._bucket.get(newest.key) if newest else None
        if newest and data is not None:
            path = self.path.with_suffix(".loaded")
            with self._reading(newest.key):
                with gzip.open(io.BytesIO(data)) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                with closing(self._connect(path)) as loaded:
                    [(version,)] = loaded.execute("PRAGMA user_version")
                    if not version:
                        raise ValueError("it is not a snapshot")
                    self._check(version)
                    loaded.backup(self._database)
            path.unlink()
            self._create()
            self.position = _number(newest.key)
        self._proved = time

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Raise the errors of damaged objects as BucketError."""
        try:
            yield
        except _DAMAGES as error:
            text = f"s3://{self._bucket.name}/{key} cannot be read: {error}"
            raise BucketError(text, is_temporary=False) from error

    def _create(self) -> None:
        self._database.executescript(f"{self._schema}; PRAGMA user_version = {self._version}")

    def _prove_conditional(self) -> None:
        """Raise BucketError if the server replaces an object in spite of the condition."""
        key = self._key("log", 0)
        if self._bucket.put_new(key, b"") and self._bucket.put_new(key, b""):
            raise BucketError(
                f"{self._bucket.url}: the server ignores If-None-Match, which is necessary to"
                " share a bucket",
                is_temporary=False,
            )

    def _check(self, version: int) -> None:
        if version > self._version:
            raise BucketError(
                f"{self._bucket.url} has data of a newer release (format {version}, this one reads"
                f" up to {self._version}); run that release, or choose another prefix: nothing was"
                " changed",
                is_temporary=False,
            )

    def _advance(self) -> None:
        self.position += 1
        if self.position % SNAPSHOT_EVERY == 0 and self._snapshot.done():
            # The transaction keeps the content of this moment.
            reader = self._connect(self.path)
            reader.execute("BEGIN")
            reader.execute("SELECT 1 FROM sqlite_schema").fetchall()
            self._snapshot = self._snapshots.submit(self._save, reader, self.position)

    def _save(self, reader: sqlite3.Connection, position: int) -> None:
        """Write a snapshot, and delete the objects that it replaces; errors are logged only."""
        path = self.path.with_suffix(".saved")
        packed = self.path.with_suffix(".gz")
        try:
            with closing(reader), closing(self._connect(path)) as saved:
                reader.backup(saved)
            with path.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
                shutil.copyfileobj(source, target)
            self._bucket.put(self._key("snapshots", position), packed.read_bytes())
            self._prune()
        except (OSError, sqlite3.Error):
            _log.warning("A snapshot of %s was not written", self._name, exc_info=True)

    def _prune(self) -> None:
        """Delete the snapshots before the last two, and the log before them, in this order."""
        snapshots = list(self._bucket.list(self._key("snapshots/")))
        if len(snapshots) < 2:
            return
        kept, end = _number(snapshots[-2].key), snapshots[-1].modified_at - KEPT_SECONDS

        def is_old(entry: Entry) -> bool:
            return _number(entry.key) < kept and entry.modified_at < end

        for entries in (snapshots, self._bucket.list(self._key("log/"))):
            self._bucket.delete(*(each.key for each in takewhile(is_old, entries)))

    def _key(self, part: str, number: int | None = None) -> str:
        return self._bucket.key(self._name, part, *([] if number is None else [f"{number:016d}"]))

    def _connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)


def _number(key: str) -> int:
    return int(key.rpartition("/")[2])


def _encoded(value: object) -> bytes:
    def encode(data: object) -> dict[str, str]:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"{type(data).__name__} is not a value of SQLite")
        return {"base64": base64.b64encode(data).decode()}

    return json.dumps(value, default=encode, separators=(",", ":")).encode()


def _decoded(data: bytes) -> Any:
    def decode(value: dict[str, Any]) -> Any:
        return base64.b64decode(value["base64"]) if "base64" in value else value

    return json.loads(data, object_hook=decode)
