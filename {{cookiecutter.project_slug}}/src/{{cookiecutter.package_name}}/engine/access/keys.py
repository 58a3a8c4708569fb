"""Secrets: a prefix and 256 random bits. The service stores only their SHA-256.

A fast hash is enough, because 256 random bits cannot be guessed. The prefix lets scanners of
repositories find keys, and distinguishes tickets from the owner's own parameters.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass

from ..kernel.access import Principal

KEY, TICKET = "sk_", "tk_"


@dataclass(frozen=True, slots=True)
class Key:
    """The record of a key; times are seconds since 1970, None for never."""

    digest: bytes
    #: The name, unique among all keys.
    name: str
    #: The owner of files, uploads and runs that were created with it.
    principal: Principal
    #: Roles and scopes, as they were given.
    grants: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def flaw(self) -> str:
        """Return why the key is not valid now; empty if it is."""
        if self.revoked_at is not None:
            return "revoked"
        is_expired = self.expires_at is not None and self.expires_at <= time.time()
        return "expired" if is_expired else ""


def new_secret(prefix: str) -> str:
    """Return a new key or ticket."""
    return prefix + secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 of a key or ticket."""
    return hashlib.sha256(secret.encode("latin-1", "replace")).digest()
