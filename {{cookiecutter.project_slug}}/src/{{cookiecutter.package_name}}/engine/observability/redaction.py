"""Removal of secrets from log lines and spans.

They are the values of parameters with names such as `token`, and under any name a value with
`Bearer` (RFC 6750), with `Basic` (RFC 7617), or in the form of a JSON Web Token (RFC 7519) or of a
key, ticket or signature of the engine.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

HIDDEN = "***"
#: Characters of a query, of a value, and of a parameter without a name.
MAX_QUERY, MAX_VALUE, MAX_BARE = 2000, 100, 20

_SECRET = re.compile(
    "auth|bearer|code|cred|hmac|jwt|key|nonce|otp|pass|pwd|secret|session|sig|state|ticket|token",
    re.I,
)
#: JSON Web Tokens; keys, tickets and signatures.
_FORMS = r"eyJ[\w-]{6,}\.[\w-]*\.[\w-]*|[st]k_[\w-]{40,}|sl_\w+\.\d+\.[\w.-]{40,}"
_CREDENTIAL = re.compile(r"bearer|basic\s+\S|" + _FORMS, re.I)
_IN_TEXT = re.compile(r"((?:bearer|basic)(?:\s|%20|[+:])+)[^\s\"'&,;<>]{8,}|" + _FORMS, re.I)
_PARAMETER = re.compile(r"(?<=[?&;])([^=&;?\s\"'<>]{1,200})=([^&;\s\"'<>]+)")


@lru_cache(4096)  # For all applications: only the name matters.
def is_secret(name: str) -> bool:
    """Return whether the value of a parameter is secret; `name` is as it was sent."""
    return _SECRET.search(unquote_plus(name)) is not None


def is_credential(text: str) -> bool:
    """Return whether a text contains a credential; it may be percent-encoded, even twice."""
    return any(map(_CREDENTIAL.search, {text, once := unquote_plus(text), unquote_plus(once)}))


def query(raw: bytes) -> str:
    """Return a query as it was sent, without its secrets, and with long values cut."""
    text = raw[:MAX_QUERY].decode("ascii", "backslashreplace")
    return "&".join(_shown(*item.partition("=")) for item in text.split("&"))


def path(template: str, raw: bytes, names: "dict[str, object]") -> str:
    """Return a path as it was sent, or its template if a parameter or a part of it is secret."""
    sent = raw[:MAX_QUERY].decode("ascii", "backslashreplace")
    return template if any(map(is_secret, names)) or is_credential(sent) else sent


def text(line: str) -> str:
    """Return a text without the credentials in it, and the secrets of the queries in it."""
    line = _IN_TEXT.sub(lambda found: (found[1] or "") + HIDDEN, line)
    return _PARAMETER.sub(_hidden, line) if "=" in line else line


def _shown(name: str, equals: str, value: str) -> str:
    if is_credential(name):
        return HIDDEN
    if not equals:  # It may be a secret: show enough to recognise a flag.
        return name if len(name) <= MAX_BARE else f"{name[:MAX_BARE]}…"
    if is_secret(name) or is_credential(value):
        return f"{name[:MAX_VALUE]}={HIDDEN}"
    return f"{name[:MAX_VALUE]}={value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + '…'}"


def _hidden(parameter: "re.Match[str]") -> str:
    name, value = parameter.groups()
    return f"{name}={HIDDEN if is_secret(name) or is_credential(value) else value}"
