"""The Range of a request, as far as one range goes; several are answered with the whole file.

Source: RFC 9110, sections 14.1.2 (byte ranges), 14.2 (Range), 15.5.17 (416).
"""

import re
from dataclasses import dataclass

_SPEC = re.compile(r"(\d*)-(\d*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to `stop` (exclusive)."""

    start: int
    stop: int

    def content_range(self, length: int) -> str:
        """Return the Content-Range of this part of `length` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{length}"


class Unsatisfiable(Exception):
    """The range lies outside the representation: 416."""


def _number(digits: str) -> int:
    """Return a number; one beyond all sizes for more digits than Python likes to convert."""
    return int(digits) if len(digits) < 19 else 1 << 63


def parse_range(field: str | None, length: int) -> ByteRange | None:
    """Return the range that a Range field selects of `length` bytes; None for the whole.

    An unknown unit, a malformed field and a set of several ranges are ignored, as section 14.2
    allows. Raises Unsatisfiable when the one range has no byte in common with the representation.
    """
    unit, separator, specs = (field or "").partition("=")
    if not separator or unit.strip().lower() != "bytes":
        return None
    members = [member.strip() for member in specs.split(",") if member.strip()]
    match = _SPEC.fullmatch(members[0]) if len(members) == 1 else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, stop = max(0, length - _number(match[2])), length
    else:
        start, last = _number(match[1]), _number(match[2]) if match[2] else length
        if match[2] and last < start:
            return None
        stop = min(last + 1, length)
    if start >= stop:
        raise Unsatisfiable
    return ByteRange(start, stop)
