"""The parts of a representation that a Range header selects.

Pure functions. Source: RFC 9110, sections 14 (range requests), 15.3.7 (206), 15.5.17 (416).
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ..kernel.problem import Problem

#: Ranges with a smaller gap are merged: sending the gap costs less than framing (15.3.7.2).
MIN_GAP = 80

#: `1#range-spec` with the empty elements of section 5.6.1.2. It has no ambiguity, so that matching
#: takes linear time.
_SPEC = "(?:[0-9]+-[0-9]*|-[0-9]+)?+"
_RANGE = re.compile(rf"bytes={_SPEC}(?:[ \t]*+,[ \t]*+{_SPEC})*+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to `stop` (exclusive)."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Return the Content-Range of this part of `size` bytes (14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The pieces of a representation that are sent, in order, and the headers for them."""

    status: int
    pieces: list[bytes | ByteRange]
    headers: dict[str, str]


def whole(size: int) -> Selection:
    """Return the selection of all bytes."""
    return Selection(200, [ByteRange(0, size)], {"Content-Length": str(size)})


def select(field: str, size: int, content_type: str) -> Selection:
    """Return the selection of a Range header from `size` bytes of a media type.

    Selects all bytes where section 14.2 lets a server ignore the header. Raises Problem 416 when no
    range is satisfiable.
    """
    ranges = parse_ranges(field, size)
    if ranges is None:
        return whole(size)
    if not ranges:
        headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        raise Problem(416, headers=headers)
    parts = coalesced(ranges)
    if len(parts) > 1:
        return _multipart(parts, size, content_type)
    part = parts[0]
    headers = {"Content-Length": str(part.length), "Content-Range": part.content_range(size)}
    return Selection(206, [part], headers)


def parse_ranges(field: str, size: int) -> list[ByteRange] | None:
    """Return the satisfiable ranges of a Range header in its order; None if it must be ignored.

    It is ignored with an unknown unit or a malformed range. A suffix range of an empty
    representation is satisfiable, but has no Content-Range (14.1.2), so it is ignored as well.
    """
    if not _RANGE.fullmatch(field):
        return None
    members = (member.strip(" \t") for member in field.partition("=")[2].split(","))
    specs = [member for member in members if member]
    if not specs:
        return None
    ranges = []
    for spec in specs:
        first, _, last = spec.partition("-")
        if not first:
            if not size and Decimal(last):
                return None
            start, stop = size - _clamped(last, size), size
        elif last and Decimal(last) < Decimal(first):
            return None
        else:
            start = _clamped(first, size)
            stop = _clamped(last, size - 1) + 1 if last else size
        if start < stop:
            ranges.append(ByteRange(start, stop))
    return ranges


def _clamped(digits: str, most: int) -> int:
    # The grammar allows thousands of digits, which `int` refuses.
    return int(min(Decimal(digits), Decimal(most)))


def coalesced(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """Merge ranges that overlap or are close; the result keeps the order of the request."""
    merged: list[tuple[int, ByteRange]] = []
    for place, part in sorted(enumerate(ranges), key=lambda item: item[1].start):
        if merged and part.start - merged[-1][1].stop < MIN_GAP:
            first, before = merged[-1]
            union = ByteRange(before.start, max(before.stop, part.stop))
            merged[-1] = (min(first, place), union)
        else:
            merged.append((place, part))
    return [part for _, part in sorted(merged, key=lambda item: item[0])]


def _multipart(parts: list[ByteRange], size: int, content_type: str) -> Selection:
    """Return parts as multipart/byteranges (14.6), or all bytes if that is shorter."""
    boundary = secrets.token_hex(16)  # Random, so that it is not in the file.
    pieces: list[bytes | ByteRange] = []
    framing = 0
    for part in parts:
        frame = "\r\n" if pieces else ""
        frame += f"--{boundary}\r\nContent-Type: {content_type}\r\n"
        frame += f"Content-Range: {part.content_range(size)}\r\n\r\n"
        pieces += [frame.encode("latin-1"), part]
        framing += len(frame)
    end = f"\r\n--{boundary}--\r\n".encode()
    payload = sum(part.length for part in parts)
    length = framing + payload + len(end)
    if length > size:
        return whole(size)
    headers = {
        "Content-Length": str(length),
        "Content-Type": f"multipart/byteranges; boundary={boundary}",
    }
    return Selection(206, [*pieces, end], headers)
