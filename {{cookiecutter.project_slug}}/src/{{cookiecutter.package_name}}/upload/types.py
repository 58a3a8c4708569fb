"""What the first bytes of a file say of its type; a client's word is no reason to store it."""

import fnmatch

import filetype

from ..storage import Draft
from ..streaming import Problem

_BINARY = "application/octet-stream"


class AllowedTypes:
    """Refuses files whose bytes are not of an allowed media type; see `Callbacks.accept`."""

    def __init__(self, patterns: str) -> None:
        """`patterns` are media types with commas, `image/*` included; none allows everything."""
        self._patterns = [pattern.strip().lower() for pattern in patterns.split(",") if pattern]

    def __call__(self, draft: Draft, head: bytes) -> None:
        """Raise Problem 415 when the type is not allowed; `head` are up to 4 KiB."""
        if self._patterns:
            found = type_of(draft, head)
            if not any(fnmatch.fnmatchcase(found, pattern) for pattern in self._patterns):
                raise Problem(415, f"Files of the type {found} are not stored here.")


def type_of(draft: Draft, head: bytes) -> str:
    """Return the media type of a file by its first bytes.

    Text has no signature: for what is UTF-8 without controls, the client may name the kind.
    """
    kind = filetype.guess_mime(head)
    if kind:
        return str(kind)
    declared = draft.content_type.partition(";")[0].strip().lower()
    if not _is_text(head):
        return _BINARY
    is_text_type = declared.startswith("text/") or declared.endswith(("json", "xml", "jsonl"))
    return declared if is_text_type else "text/plain"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut.
        if error.start < len(head) - 3 or error.reason != "unexpected end of data":
            return False
        text = head[: error.start].decode()
    return all(character >= " " or character in "\t\r\n\f\x1b" for character in text)
