"""The start of a response: its status and headers, as servers can send them.

Servers send a malformed header as it is, or fail when the response can no longer become an error.
Sources: RFC 9110, sections 5.1 (names), 5.5 (values), 8.6 (Content-Length) and 15 (status codes).
"""

import re

from starlette.types import Message

_is_name = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_has_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def check_start(message: Message) -> None:
    """Raise RuntimeError for a status or a header that is malformed."""
    if not 100 <= message.get("status", 200) <= 599:
        raise RuntimeError(f"The response has the status {message['status']}")
    for name, value in message.get("headers", ()):
        is_length = name == b"content-length"
        if not _is_name(name) or _has_control(value) or (is_length and not value.isdigit()):
            raise RuntimeError(f"The response has a malformed header: {name!r}: {value!r}")
