"""What the first bytes of a file say of its type; a client's word is no reason to store it."""

import codecs
import fnmatch
import re

import filetype

from ..kernel.problem import Problem, ProblemType
from ..storage.records import Draft

_BINARY = "application/octet-stream"

NOT_STORED = ProblemType(
    "type-not-stored",
    "Files of this type are not stored",
    "The service stores files of some media types only. What counts is the first bytes of the file"
    " as well as its `Content-Type`: to name another one does not help.",
)


class AllowedTypes:
    """Refuses files whose bytes are not of an allowed media type; see `Callbacks.accept`."""

    def __init__(self, patterns: str) -> None:
        """`patterns` are media types with commas, `image/*` included; none allows everything."""
        self._patterns = [p.strip().lower() for p in patterns.split(",") if p.strip()]

    def __call__(self, draft: Draft, head: bytes) -> None:
        """Raise Problem 415 when the type is not allowed; `head` are up to 4 KiB.

        The type that the client names has to be allowed too, as it is the one that is kept.
        """
        named = draft.content_type.partition(";")[0].strip().lower()
        found = type_of(head, named)
        for kind in {found} if named == _BINARY else {found, named}:
            if self._patterns and not any(fnmatch.fnmatchcase(kind, p) for p in self._patterns):
                raise Problem(
                    415, f"Files of the type {kind} are not stored here.", type=NOT_STORED
                )


def type_of(head: bytes, named: str) -> str:
    """Return the media type of a file by its first bytes.

    Text has no signature: for what is UTF-8 without controls, the client may name the kind.
    """
    kind = filetype.guess_mime(head)
    if kind:
        return str(kind)
    if not _is_text(head):
        return _BINARY
    is_svg = named == "image/svg+xml" and b"<svg" in head
    if is_svg or named.startswith("text/") or re.fullmatch(r"application/.*(json|xml)l?", named):
        return named
    return "text/plain"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(
            head
        )  # Its last character may be cut.
    except UnicodeDecodeError:
        return False
    return all(character >= " " or character in "\t\r\n\f\x1b" for character in text)
