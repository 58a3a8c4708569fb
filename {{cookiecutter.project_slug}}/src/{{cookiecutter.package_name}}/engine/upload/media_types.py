"""Media types of uploaded files: the declared one, and the one that the first bytes show."""

import codecs
import fnmatch
import mimetypes
import re

import filetype

from ..kernel.problem import Problem, ProblemType
from ..storage.records import Draft

_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+"
    r'([ \t]*;[ \t]*[\w!#$&^.+-]+=([\w!#$&^.+-]+|"[^"\\\x00-\x1f\x7f-\U0010ffff]*"))*[ \t;]*',
    re.ASCII,
)
_BINARY = "application/octet-stream"

NOT_STORED = ProblemType(
    "type-not-stored",
    "Files of this type are not stored",
    "The service stores files of some media types only. It checks the first bytes of the file as"
    " well as its `Content-Type`, so declaring another type does not help.",
)


def content_type_of(declared: str, filename: str) -> str:
    """Return the media type that a client declares, or else the one of the file extension."""
    declared = declared.strip()
    # curl sends every body as a form by default.
    is_form = declared.startswith("application/x-www-form-urlencoded")
    if _MEDIA_TYPE.fullmatch(declared) and not is_form:
        return declared
    return mimetypes.guess_type(filename)[0] or _BINARY


class AllowedTypes:
    """Refuses files whose media type is not allowed; used as `Callbacks.accept`."""

    def __init__(self, patterns: str) -> None:
        """`patterns` are media types with commas, such as `image/*`; none allows everything."""
        self._patterns = [p.strip().lower() for p in patterns.split(",") if p.strip()]

    def __call__(self, draft: Draft, head: bytes) -> None:
        """Raise Problem 415 when the type is not allowed; `head` has up to 4 KiB.

        The declared type must be allowed as well, because the file is stored with it.
        """
        named = draft.content_type.partition(";")[0].strip().lower()
        found = _type_of(head, named)
        for kind in {found} if named == _BINARY else {found, named}:
            if self._patterns and not any(fnmatch.fnmatchcase(kind, p) for p in self._patterns):
                raise Problem(
                    415, f"Files of the type {kind} are not stored here.", type=NOT_STORED
                )


def _type_of(head: bytes, named: str) -> str:
    """Return the media type of a file by its first bytes.

    Text has no signature: for UTF-8 without control characters, the declared kind of text counts.
    """
    kind = filetype.guess_mime(head)
    if kind:
        return str(kind)
    try:  # The last character may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return _BINARY
    if any(character < " " and character not in "\t\r\n\f\x1b" for character in text):
        return _BINARY
    is_svg = named == "image/svg+xml" and b"<svg" in head
    if is_svg or named.startswith("text/") or re.fullmatch(r"application/.*(json|xml)l?", named):
        return named
    return "text/plain"
