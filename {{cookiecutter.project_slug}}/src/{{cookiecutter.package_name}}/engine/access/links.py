"""Signed links: each lets its holder GET one path for some time, without a key.

A signature is `sl_ID.EXPIRES.PRINCIPAL.MAC`: the secret that signed it, the time in seconds since
1970 after which it is refused, whose access it lends, and the HMAC-SHA-256 of these and the path.
It is valid for ranges and repeated downloads, too. Source: RFC 2104.
"""

import base64
import hmac
import time

from ..kernel.access import Principal

#: The scopes of a request with a link.
SCOPES = frozenset({"files:read"})
METHODS = ("GET", "HEAD")
PREFIX = "sl_"


def sign(secrets: dict[str, bytes], path: str, owner: str, seconds: float) -> str:
    """Return the signature of a path by the newest secret, for the access of its owner."""
    name = next(reversed(secrets))
    claims = f"{PREFIX}{name}.{int(time.time() + seconds)}.{owner}"
    return f"{claims}.{_mac(secrets[name], claims, path)}"


def principal_of_link(secrets: dict[str, bytes], signature: str, path: str) -> Principal | None:
    """Return whose access a link lends; None if it is not valid for this path now."""
    claims, _, mac = signature.rpartition(".")
    name, _, rest = claims.removeprefix(PREFIX).partition(".")
    expires, _, owner = rest.partition(".")
    secret = secrets.get(name)
    if secret is None or not hmac.compare_digest(
        mac.encode("latin-1", "replace"), _mac(secret, claims, path).encode()
    ):
        return None
    return Principal(owner, SCOPES, is_guest=True) if int(expires) > time.time() else None


def secret_of(signature: str) -> str:
    """Return the id of the secret that has signed it."""
    return signature.removeprefix(PREFIX).partition(".")[0]


def _mac(secret: bytes, claims: str, path: str) -> str:
    digest = hmac.digest(secret, f"{claims} {path}".encode("utf-8", "surrogateescape"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
