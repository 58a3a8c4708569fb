"""Which requests open a WebSocket, and what others are told in its place.

Sources: RFC 6455, sections 4.2.1 and 4.4 (another version); RFC 9110, section 15.5.22 (426).
"""

import re
from collections.abc import Iterable

from .problem import Problem

#: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_VERSION = b"13"
#: A response that has the one has to have the others.
_UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


def handshake_flaw(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Return Problem 426 or 400 for a request that asks for no WebSocket, or in a wrong way."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value.strip(b" \t"))
    upgrades = {value.lower() for value in fields.get(b"upgrade", [])}
    if http_version == "1.0" or upgrades != {b"websocket"}:
        return Problem(426, "This is a WebSocket: ask for the upgrade.", headers=_UPGRADE)
    if fields.get(b"sec-websocket-version") != [_VERSION]:
        return Problem(426, "The version of WebSockets is 13.", headers=_UPGRADE)
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return Problem(400, "Sec-WebSocket-Key is 16 bytes in base64.")
    return None
