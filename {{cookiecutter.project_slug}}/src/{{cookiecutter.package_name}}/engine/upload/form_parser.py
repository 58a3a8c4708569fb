"""Cuts a `multipart/form-data` body into parts as it arrives, wherever its chunks end.

Boundaries are searched at the speed of memory, and nothing of a part is kept. A boundary where none
may be is refused, so no part becomes the bytes of another, and none is lost.

Sources: RFC 7578; RFC 2046, section 5.1.1.
"""

import re
from collections.abc import Iterator
from typing import Literal

from ..kernel.problem import Problem, ProblemType
from ..streams.content import parameters

MALFORMED = ProblemType(
    "malformed-form",
    "The form is malformed",
    "The body is no form as RFC 7578 describes one, and nothing of it was stored. It is a mistake"
    " of the program that made it.",
)

#: Bytes of one part's header.
MAX_HEADER = 16 << 10
#: Bytes before the first part and after the last one, which mean nothing.
MAX_OUTSIDE = 64 << 10

#: The characters of RFC 2046 and those of a token: old Android code sends `*****` and `&`.
_BOUNDARY = re.compile(r"[\w'()+,./:=? !#$%&*^`|~-]{0,69}[\w'()+,./:=?!#$%&*^`|~-]", re.ASCII)
#: After a boundary comes the end of the form, or padding and a part; where a chunk ends it may be
#: either. Other text after padding is malformed. Anything else is data that looks like a boundary.
_AFTER = rb"(?:(?P<end>--)|(?P<part>[ \t]{0,256}\r\n)|(?P<cut>(?:-|[ \t]{0,256}\r?)\Z)|[ \t\n])"
#: In text outside of the boundaries this is a part that is lost.
_LOST = b"content-disposition:"


class FormParser:
    """Raises Problem 400 for a form that is malformed."""

    def __init__(self, content_type: str) -> None:
        try:
            _, found = parameters(content_type)
        except ValueError as error:
            raise malformed(f"in its Content-Type {error}") from None
        boundary = found.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise malformed("its boundary is 1 to 70 of the characters in RFC 2046")
        #: Bytes of the last boundary, with what belongs to it.
        self.closing = len(f"\r\n--{boundary}--\r\n")
        self._delimiter = f"\r\n--{boundary}".encode()
        self._boundary = re.compile(re.escape(self._delimiter) + _AFTER)
        self._place: Literal["before", "header", "data", "after"] = "before"
        #: What cannot be read before more arrives. The first boundary may be the very first bytes.
        self._rest = b"\r\n"
        #: How many bytes may begin a boundary, but are no data.
        self._skip = 0
        self._outside = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | memoryview]:
        """Yield each header in a chunk as bytes, and the data after it as memoryviews.

        Iterate it to its end before the next chunk.
        """
        read = len(self._rest)
        data, start = self._rest + chunk if read else chunk, 0
        while True:
            if self._place == "header":
                end = data.find(b"\r\n\r\n", max(start, read - 3))
                if (len(data) if end < 0 else end) - start > MAX_HEADER:
                    raise malformed(f"the header of a part has at most {MAX_HEADER} bytes")
                if end < 0:
                    break
                yield data[start + 2 : end]
                # Without a body the line break of the empty line belongs to the next boundary.
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
                # Without a header the line break of the boundary is half of the empty line.
                start, self._place = match.end() - 2, "header"
        self._rest = data[start:]

    def finish(self) -> None:
        """Raise Problem 400 when the form has not ended."""
        if self._place != "after":
            raise malformed("it ends before its last boundary")

    def _next_boundary(self, data: bytes, start: int) -> re.Match[bytes] | None:
        if self._place == "data":
            index = data.find(self._delimiter, start)  # Faster than the expression.
            match = self._boundary.search(data, index) if index >= 0 else None
        else:
            # Also one within a line: passed over, it would take a part with it.
            index = data.find(self._delimiter[2:], start)
            if index < 0:
                return None
            match = self._boundary.match(data, index - 2)
            if match is None or self._place == "after":
                raise malformed("a boundary stands where none may be")
        if match and match.lastgroup is None:
            raise malformed("a boundary does not end its line")
        return match

    def _safe(self, data: bytes, start: int) -> int:
        """Return where bytes begin that may be part of a boundary, when there is no whole one."""
        if self._place != "data":
            return max(start, len(data) - len(self._delimiter) - len(_LOST))
        index = data.rfind(b"\r", max(start, len(data) - len(self._delimiter) + 1))
        return index if index >= 0 and self._delimiter.startswith(data[index:]) else len(data)

    def _pass_over(self, text: bytes, size: int) -> None:
        self._outside += size
        if self._outside > MAX_OUTSIDE:
            raise malformed("there is too much around its parts")
        if _LOST in text.lower():
            raise malformed("a part is not between two boundaries")


def malformed(reason: str) -> Problem:
    return Problem(400, f"The form is malformed: {reason}.", type=MALFORMED)
