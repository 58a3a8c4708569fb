"""Parsing of `multipart/form-data` bodies as they arrive.

`FormParser` splits a body into the headers and the data of its parts, wherever the chunks end. It
searches for boundaries at memory speed and keeps no data. A boundary in an unexpected place is
refused, so that the bytes of one part never end up in another. `part_of` parses the headers.

Sources: RFC 7578; RFC 2046, section 5.1; RFC 5322, section 2.2.3 (folded lines); HTML, "Multipart
form data" (escapes in names).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..kernel.body import partial_body
from ..kernel.problem import Problem, ProblemType
from ..streams.content import decode, parameters

MALFORMED = ProblemType(
    "malformed-form",
    "The form is malformed",
    "The body is not a form as RFC 7578 specifies it; `detail` describes the error. No part of the"
    " form was stored. This is a bug in the client.",
)

#: Bytes and lines of the headers of one part.
MAX_HEADER = 16 << 10
MAX_HEADER_LINES = 32
#: Ignored bytes before the first part and after the last one.
MAX_OUTSIDE = 64 << 10

#: The characters of RFC 2046 and those of a token: old Android code sends `*****` and `&`.
_BOUNDARY = re.compile(r"[\w'()+,./:=? !#$%&*^`|~-]{0,69}[\w'()+,./:=?!#$%&*^`|~-]", re.ASCII)
#: A boundary is followed by the end of the form, or by padding and a part; at the end of a chunk it
#: may be either. Other text after padding is malformed. Without a match, the bytes are data.
_AFTER = rb"(?:(?P<end>--)|(?P<part>[ \t]{0,256}\r\n)|(?P<cut>(?:-|[ \t]{0,256}\r?)\Z)|[ \t\n])"
#: Outside of the boundaries, this is the header of a part that would be lost.
_LOST = b"content-disposition:"

_FOLD = re.compile(rb"\r\n[ \t]+")
_LINE = re.compile(rb"([\w!#$%&'*+.^`|~-]+):([^\r\n\0]*)")
#: Browsers escape these characters in names and no others, not even the percent sign.
_ESCAPE = re.compile("%(22|0D|0A)")
_CODINGS = {b"content-transfer-encoding", b"content-encoding"}
_IDENTITY = {b"binary", b"7bit", b"8bit", b"identity"}


class FormParser:
    """Splits a form into headers and data; raises Problem 400 for one that is malformed."""

    def __init__(self, content_type: str) -> None:
        try:
            _, found = parameters(content_type)
        except ValueError as error:
            raise malformed(f"its Content-Type is not valid: {error}") from None
        boundary = found.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise malformed("its boundary must have 1 to 70 of the characters in RFC 2046")
        #: Bytes of the last boundary and of its line breaks.
        self.closing = len(f"\r\n--{boundary}--\r\n")
        self._delimiter = f"\r\n--{boundary}".encode()
        self._boundary = re.compile(re.escape(self._delimiter) + _AFTER)
        self._place: Literal["before", "header", "data", "after"] = "before"
        #: Bytes that need the next chunk. The first boundary may have no line break before it.
        self._rest = b"\r\n"
        #: Leading bytes of the data that are the line break of a boundary or of the headers.
        self._skip = 0
        self._outside = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | memoryview]:
        """Yield the headers of each part as bytes, and its data as memoryviews.

        The caller must exhaust the iterator before it passes the next chunk.
        """
        read = len(self._rest)
        data, start = self._rest + chunk if read else chunk, 0
        while True:
            if self._place == "header":
                end = data.find(b"\r\n\r\n", max(start, read - 3))
                if (len(data) if end < 0 else end) - start > MAX_HEADER:
                    raise malformed(f"the headers of a part may have at most {MAX_HEADER} bytes")
                if end < 0:
                    break
                yield data[start + 2 : end]
                # In a part without data the line break of the empty line belongs to the boundary.
                start, self._place, self._skip = end + 2, "data", 2
            match = self._next_boundary(data, start)
            end = match.start() if match else self._safe(data, start)
            if self._place != "data":
                self._pass_over(data[start : match.start() if match else None], end - start)
            elif end > start:
                if end > start + self._skip:
                    yield memoryview(data)[start + self._skip : end]  # A slice would be a copy.
                self._skip = 0
            start = end
            if match is None or match.lastgroup == "cut":
                break
            start, self._place = match.end(), "after"
            if match.lastgroup == "part":
                # In a part without headers the line break of the boundary begins the empty line.
                start, self._place = match.end() - 2, "header"
        self._rest = data[start:]

    def finish(self) -> None:
        """Raise Problem 400 when the last boundary is missing."""
        if self._place != "after":
            raise malformed("it ends before its last boundary")

    def _next_boundary(self, data: bytes, start: int) -> re.Match[bytes] | None:
        if self._place == "data":
            index = data.find(self._delimiter, start)  # Faster than the expression.
            match = self._boundary.search(data, index) if index >= 0 else None
        else:
            # A boundary within a line counts too: ignoring it would lose the part that follows.
            index = data.find(self._delimiter[2:], start)
            if index < 0:
                return None
            match = self._boundary.match(data, index - 2)
            if match is None or self._place == "after":
                raise malformed("a boundary is in a place where none is allowed")
        if match and match.lastgroup is None:
            raise malformed("a boundary does not end its line")
        return match

    def _safe(self, data: bytes, start: int) -> int:
        """Return the position from which bytes may belong to a boundary in the next chunk."""
        if self._place != "data":
            return max(start, len(data) - len(self._delimiter) - len(_LOST))
        index = data.rfind(b"\r", max(start, len(data) - len(self._delimiter) + 1))
        return index if index >= 0 and self._delimiter.startswith(data[index:]) else len(data)

    def _pass_over(self, text: bytes, size: int) -> None:
        self._outside += size
        if self._outside > MAX_OUTSIDE:
            raise malformed("there is too much text around its parts")
        if _LOST in text.lower():
            raise malformed("a part is not between two boundaries")


@dataclass(frozen=True, slots=True)
class Part:
    """The headers of a part; `filename` is None for a field, "" for a file without a name."""

    name: str
    filename: str | None
    content_type: str
    #: The charset of a field, if its Content-Type has one.
    charset: str = ""
    #: Whether the names were not UTF-8 and were decoded as Latin-1.
    guessed: bool = False


def part_of(block: bytes, charset: str = "") -> Part:
    """Parse the headers of a part; `charset` is the one that the form declares for names.

    Raises Problem 400 for malformed headers and 415 for a part with a transfer or content coding.
    """
    headers = _headers(block)
    octets, guessed = headers.get(b"content-disposition", b""), False
    try:
        disposition = text_of(octets, charset, "the name of a part")
    except Problem:
        if charset:
            raise
        disposition, guessed = octets.decode("latin-1"), True
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    try:
        kind, names = parameters(disposition, _unescape)
        if kind != "form-data" or "name" not in names:
            raise ValueError("there is no `Content-Disposition: form-data` with a name")
        filename = names.get("filename")
        # The type of a file is stored unchanged, even if it is not valid.
        media_type, of_type = parameters(content_type) if filename is None else ("", {})
    except ValueError as error:
        raise malformed(f"the headers of a part are not valid: {error}") from None
    if b"content-range" in headers:
        raise partial_body("`Content-Range` in a part")
    codings = {headers[name].lower() for name in _CODINGS & headers.keys()}
    if media_type.startswith("multipart/") or codings - _IDENTITY:
        raise Problem(415, "Send each file as a separate part, without an encoding.")
    return Part(names["name"], filename, content_type, of_type.get("charset", ""), guessed)


def text_of(octets: bytes, charset: str, subject: str) -> str:
    """Decode text of a form, as UTF-8 if `charset` is empty; errors name the `subject`.

    Raises Problem 415 for an unknown charset and 400 for bytes that are not valid in it.
    """
    try:
        return decode(octets, charset or "utf-8")
    except LookupError:
        detail = f"{subject} is in {charset[:40]!r}, which is not supported: use UTF-8."
        raise Problem(415, detail) from None
    except UnicodeError:
        raise malformed(f"{subject} is not text in {charset or 'UTF-8'}") from None


def malformed(reason: str) -> Problem:
    return Problem(400, f"The form is malformed: {reason}.", type=MALFORMED)


def _headers(block: bytes) -> dict[bytes, bytes]:
    """Return headers by their names in lower case."""
    lines = _FOLD.sub(b" ", block).split(b"\r\n")
    if len(lines) > MAX_HEADER_LINES:
        raise malformed(f"the headers of a part may have at most {MAX_HEADER_LINES} lines")
    headers: dict[bytes, bytes] = {}
    for line in lines if block else []:
        match = _LINE.fullmatch(line)
        if match is None:
            raise malformed("a header of a part is not valid")
        name = match[1].lower()
        if name in headers and name.startswith(b"content-"):
            raise malformed("a header of a part is repeated")
        headers[name] = match[2].strip(b" \t")
    return headers


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), value)
