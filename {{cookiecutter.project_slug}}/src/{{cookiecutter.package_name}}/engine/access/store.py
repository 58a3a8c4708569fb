"""The database of keys, one-time tickets, and the secrets that sign links; its methods block.

Every process keeps the keys in memory, and reads them again after another process has changed them.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..kernel.access import Principal
from .keys import KEY, TICKET, Key, digest_of, new_secret

#: The version of the tables.
FORMAT = 1
#: Seconds to wait for another process.
BUSY_SECONDS = 10.0

_TABLES = """
PRAGMA journal_mode = WAL;
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


class Ticket(NamedTuple):
    """One request that the holder of a key may make."""

    key: bytes
    method: str
    path: str


class KeyStore:
    """The keys of a service, and the scopes that its roles give them."""

    def __init__(self, path: Path, scopes_of: Callable[[Iterable[str]], frozenset[str]]) -> None:
        """Open the database; raises OSError and sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._scopes_of = scopes_of
        self._lock = threading.Lock()
        self._database = self._connect()
        #: Keys by digest.
        self.keys: dict[bytes, Key] = {}
        #: Secrets by id, the newest last.
        self.secrets: dict[str, bytes] = {}
        self._version = -1
        self.refresh()

    def _connect(self) -> sqlite3.Connection:
        # Other users of the machine may not read the secrets; a restored file may let them.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        with suppress(PermissionError):
            self._path.chmod(0o600)
        database = sqlite3.connect(
            self._path, BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            database.close()
            raise OSError(f"{self._path} was written by a newer release")
        database.executescript(_TABLES)
        database.execute(f"PRAGMA user_version = {FORMAT}")
        return database

    def close(self) -> None:
        with self._lock:  # SQLite would crash if another thread used the connection now.
            self._database.close()

    @contextmanager
    def _changing(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def refresh(self) -> None:
        """Read keys and secrets again if they have changed."""
        with self._lock:
            version = self._database.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return
            keys = self._database.execute("SELECT * FROM keys ORDER BY created_at").fetchall()
            rows = self._database.execute("SELECT * FROM secrets ORDER BY created_at").fetchall()
            # In the lock: a slower thread must not replace these by older ones.
            self.keys = {row[0]: self._key(*row) for row in keys}
            self.secrets = {name: secret for name, secret, _ in rows}
            self._version = version

    def _key(self, digest: bytes, name: str, owner: str, grants: str, *times: float) -> Key:
        given = tuple(grants.split())
        return Key(digest, name, Principal(owner, self._scopes_of(given)), given, *times)

    def reread(self) -> None:
        """Read everything again, after a change by this process."""
        self._version = -1
        self.refresh()

    # ---- Keys

    def create(
        self, owner: str, grants: Collection[str], name: str = "", seconds: float | None = None
    ) -> str:
        """Return a new key, which expires after some seconds; the name is random by default.

        Raises ValueError if the name is taken.
        """
        secret, now = new_secret(KEY), time.time()
        name = name or secrets.token_hex(8)
        expires_at = None if seconds is None else now + seconds
        row = digest_of(secret), name, owner, " ".join(grants), now, expires_at
        try:
            with self._changing() as database:
                database.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
        except sqlite3.IntegrityError:
            raise ValueError(f"there is a key with the name {name}") from None
        self.reread()
        return secret

    def revoke(self, name: str) -> bool:
        """Revoke a key; return False if there is none with this name."""
        statement = "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE name = ?"
        with self._changing() as database:
            changed = database.execute(statement, (time.time(), name)).rowcount
        self.reread()
        return bool(changed)

    # ---- Tickets

    def issue(self, ticket: Ticket, seconds: float) -> str:
        """Return a new ticket; those that have expired are removed."""
        secret, now = new_secret(TICKET), time.time()
        with self._changing() as database:
            database.execute("DELETE FROM tickets WHERE expires_at <= ?", (now,))
            row = (digest_of(secret), *ticket, now + seconds)
            database.execute("INSERT INTO tickets VALUES (?, ?, ?, ?, ?)", row)
        return secret

    def redeem(self, secret: str) -> Ticket | None:
        """Use up a ticket; None if there is none, or it has expired."""
        digest = (digest_of(secret),)
        with self._lock:  # A wrong ticket need not get a transaction, which costs more.
            known = self._database.execute("SELECT 1 FROM tickets WHERE digest = ?", digest)
            if known.fetchone() is None:
                return None
        statement = "DELETE FROM tickets WHERE digest = ? RETURNING key, method, path, expires_at"
        with self._changing() as database:
            row = database.execute(statement, digest).fetchone()
        return Ticket(*row[:3]) if row and row[3] > time.time() else None

    # ---- Secrets

    def rotate(self, keep_seconds: float) -> None:
        """Sign with a new secret; remove those that were replaced more than `keep_seconds` ago."""
        now = time.time()
        with self._changing() as database:
            newest = database.execute("SELECT max(created_at) FROM secrets").fetchone()[0] or 0
            name, created_at = secrets.token_hex(4), max(now, newest + 0.001)
            row = (name, secrets.token_bytes(32), created_at)
            database.execute("INSERT INTO secrets VALUES (?, ?, ?)", row)
            database.execute(
                "DELETE FROM secrets WHERE id != ? AND EXISTS (SELECT 1 FROM secrets AS later"
                " WHERE later.created_at > secrets.created_at AND later.created_at <= ?)",
                (name, created_at - keep_seconds),
            )
        self.reread()
