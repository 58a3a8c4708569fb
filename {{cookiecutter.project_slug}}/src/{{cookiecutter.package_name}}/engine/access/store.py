"""The keys, one-time tickets, and the secrets that sign links; the methods block.

Every process keeps the keys in memory, and reads them again after another process has changed them.
"""

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from ..kernel.access import Principal
from .database import Database
from .keys import KEY, TICKET, Key, digest_of, new_secret

#: Sign with a new secret, which must be the newest even if the clock was set back.
_ROTATION = (
    "INSERT INTO secrets SELECT ?, ?, max(?, ifnull(max(created_at), 0) + 0.001) FROM secrets"
)
#: The secrets that were replaced some seconds ago.
_REPLACED = (
    "DELETE FROM secrets WHERE EXISTS (SELECT 1 FROM secrets AS later"
    " WHERE later.created_at > secrets.created_at"
    " AND later.created_at <= (SELECT max(created_at) FROM secrets) - ?)"
)


class Ticket(NamedTuple):
    """One request that the holder of a key may make."""

    key: bytes
    method: str
    path: str


class KeyStore:
    """The keys of a service, and the scopes that its roles give them."""

    def __init__(
        self, database: Database, scopes_of: Callable[[Iterable[str]], frozenset[str]]
    ) -> None:
        """Read the database; raises OSError and sqlite3.Error, as all methods do."""
        self._database = database
        self._scopes_of = scopes_of
        self._lock = threading.Lock()
        #: Keys by digest.
        self.keys: dict[bytes, Key] = {}
        #: Secrets by id, the newest last.
        self.secrets: dict[str, bytes] = {}
        self._version = -1
        self.refresh()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def refresh(self) -> None:
        """Read keys and secrets again if another process has changed them."""
        with self._lock:
            version = self._database.version()
            if version != self._version:
                self._read()
                self._version = version

    def _read(self) -> None:
        """Read everything, in the lock: a slower thread must not replace it by an older state."""
        keys = self._database.read("SELECT * FROM keys ORDER BY created_at")
        rows = self._database.read("SELECT * FROM secrets ORDER BY created_at")
        self.keys = {row[0]: self._key(*row) for row in keys}
        self.secrets = {name: secret for name, secret, _ in rows}

    def _key(self, digest: bytes, name: str, owner: str, grants: str, *times: float) -> Key:
        given = tuple(grants.split())
        return Key(digest, name, Principal(owner, self._scopes_of(given)), given, *times)

    def reread(self) -> None:
        """Read everything again, after a change by this process."""
        with self._lock:
            self._read()

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
            self._database.change(("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)", row))
        except sqlite3.IntegrityError:
            raise ValueError(f"there is a key with the name {name}") from None
        self.reread()
        return secret

    def revoke(self, name: str) -> bool:
        """Revoke a key; return False if there is none with this name."""
        statement = (
            "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE name = ? RETURNING name"
        )
        [changed] = self._database.change((statement, (time.time(), name)))
        self.reread()
        return bool(changed)

    # ---- Tickets

    def issue(self, ticket: Ticket, seconds: float) -> str:
        """Return a new ticket; those that have expired are removed."""
        secret, now = new_secret(TICKET), time.time()
        row = (digest_of(secret), *ticket, now + seconds)
        self._database.change(
            ("DELETE FROM tickets WHERE expires_at <= ?", (now,)),
            ("INSERT INTO tickets VALUES (?, ?, ?, ?, ?)", row),
        )
        return secret

    def redeem(self, secret: str) -> Ticket | None:
        """Use up a ticket; None if there is none, or it has expired."""
        digest = digest_of(secret)
        # A wrong ticket need not get a transaction, which costs more.
        if not self._database.read("SELECT 1 FROM tickets WHERE digest = ?", digest):
            return None
        statement = "DELETE FROM tickets WHERE digest = ? RETURNING key, method, path, expires_at"
        [rows] = self._database.change((statement, (digest,)))
        # Another process may have used it up just now.
        return Ticket(*rows[0][:3]) if rows and rows[0][3] > time.time() else None

    # ---- Secrets

    def rotate(self, keep_seconds: float) -> None:
        """Sign with a new secret; remove those that were replaced more than `keep_seconds` ago."""
        row = secrets.token_hex(4), secrets.token_bytes(32), time.time()
        self._database.change((_ROTATION, row), (_REPLACED, (keep_seconds,)))
        self.reread()
