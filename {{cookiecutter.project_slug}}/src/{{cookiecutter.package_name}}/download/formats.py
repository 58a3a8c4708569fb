"""The formats of an export: JSON Lines, CSV, plain text; and the choice between them.

CSV and text have no place for an end marker: there a failure shows in the framing alone.
Sources: RFC 9110, section 12.5.1 (Accept); RFC 4180 (CSV).
"""

import csv
import io
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

from pydantic import BaseModel

from ..streaming import ByteStream, JsonLines, Problem

Rows = AsyncGenerator[BaseModel]


def as_csv(rows: Rows) -> ByteStream:
    """Send rows as CSV with a header line."""
    return ByteStream(_encoded(rows, _csv_lines()), media_type="text/csv")


def as_text(rows: Rows) -> ByteStream:
    """Send rows as lines of tab-separated values."""
    return ByteStream(_encoded(rows, _text_line), media_type="text/plain")


#: What would break a line of text becomes a space.
_SEPARATORS = str.maketrans("\t\r\n", "   ")

#: In order of preference.
FORMATS: dict[str, Callable[[Rows], ByteStream]] = {
    "application/jsonl": JsonLines,
    "text/csv": as_csv,
    "text/plain": as_text,
}


def negotiate(accept: str) -> Callable[[Rows], ByteStream]:
    """Return the format that an Accept field prefers; raises Problem 406 when it wants none.

    Of equally wanted formats the first of FORMATS is taken; an empty field accepts everything.
    """
    ranges = list(_media_ranges(accept.strip(", ") or "*/*"))
    quality = {name: _quality(name, ranges) for name in FORMATS}
    best = max(FORMATS, key=lambda name: quality[name])
    if not quality[best]:
        raise Problem(406, f"Available are {', '.join(FORMATS)}.")
    return FORMATS[best]


def _media_ranges(accept: str) -> Iterator[tuple[str, float]]:
    for member in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in member.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    quality = 0.0
        if media_range:
            yield media_range, quality


def _quality(name: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific media range that covers a type."""
    for candidate in (name, name.partition("/")[0] + "/*", "*/*"):
        for media_range, quality in ranges:
            if media_range == candidate:
                return quality
    return 0.0


async def _encoded(rows: Rows, encode: Callable[[BaseModel], str]) -> AsyncGenerator[bytes]:
    async with aclosing(rows):
        async for row in rows:
            yield encode(row).encode()


def _csv_lines() -> Callable[[BaseModel], str]:
    fields: list[str] = []

    def encode(row: BaseModel) -> str:
        out = io.StringIO()
        values = row.model_dump(mode="json")
        writer = csv.DictWriter(out, fields or list(values))
        if not fields:
            fields.extend(values)
            writer.writeheader()
        writer.writerow(values)
        return out.getvalue()

    return encode


def _text_line(row: BaseModel) -> str:
    values = (str(value).translate(_SEPARATORS) for value in row.model_dump(mode="json").values())
    return "\t".join(values) + "\n"
