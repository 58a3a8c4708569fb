"""The formats of an export: JSON Lines, CSV, plain text; and the choice between them.

CSV and text have no place for an end marker: there a failure shows in the framing alone.
Sources: RFC 9110, section 12.5.1 (Accept); RFC 4180 (CSV).
"""

import csv
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pydantic_core
from pydantic import BaseModel

from ..kernel.problem import Problem
from ..streams.codings import weights
from ..streams.pull import ByteStream
from ..streams.rows import JsonLines, in_batches

Rows = AsyncGenerator[BaseModel]


def as_jsonl(rows: Rows, model: type[BaseModel], **options: Any) -> ByteStream:
    """Send rows as JSON Lines."""
    return JsonLines(rows, **options)


def as_csv(rows: Rows, model: type[BaseModel], **options: Any) -> ByteStream:
    """Send rows as CSV, with a header line also when there are none."""
    lines = _CsvLines(model)
    source = in_batches(rows, lines.encode, lines.end)
    return ByteStream(source, media_type="text/csv", **options)


def as_text(rows: Rows, model: type[BaseModel], **options: Any) -> ByteStream:
    """Send rows as lines of tab-separated values."""
    return ByteStream(in_batches(rows, _text_line), media_type="text/plain", **options)


#: In order of preference.
FORMATS: dict[str, Callable[..., ByteStream]] = {
    "application/jsonl": as_jsonl,
    "text/csv": as_csv,
    "text/plain": as_text,
}


def negotiate(accept: str) -> Callable[..., ByteStream]:
    """Return the format that an Accept field prefers; raises Problem 406 when it wants none.

    Of equally wanted formats the first of FORMATS is taken; an empty field accepts everything.
    """
    wanted = weights(accept) or {"*/*": 1.0}
    best = max(FORMATS, key=lambda name: _quality(name, wanted))
    if not _quality(best, wanted):
        raise Problem(406, f"Available are {', '.join(FORMATS)}.", headers={"Vary": "Accept"})
    return FORMATS[best]


def _quality(name: str, wanted: dict[str, float]) -> float:
    """Return the quality of the most specific media range that covers a type."""
    ranges = (name, name.partition("/")[0] + "/*", "*/*")
    return next((wanted[one] for one in ranges if one in wanted), 0.0)


def _cell(value: Any) -> str:
    """Return a string as it is, nothing for null, and anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    text = pydantic_core.to_json(value, inf_nan_mode="null").decode()
    return "" if text == "null" else text


class _Echo:
    """Where the csv module writes to, to get the line back."""

    def write(self, line: str) -> str:
        return line


class _CsvLines:
    """Encodes rows, the first with the header before it."""

    def __init__(self, model: type[BaseModel]) -> None:
        fields = [name for name, field in model.model_fields.items() if not field.exclude]
        self._names = [*fields, *model.model_computed_fields]
        self._write: Callable[[list[str]], str] = csv.writer(_Echo()).writerow
        self._header: bytes = self._write(self._names).encode()

    def encode(self, row: BaseModel) -> bytes:
        values = row.model_dump(mode="json", by_alias=False)
        line = self._write([_cell(values.get(name)) for name in self._names]).encode()
        header, self._header = self._header, b""
        return header + line

    def end(self) -> bytes:
        return self._header


#: What would break a line of text becomes a space.
_SEPARATORS = str.maketrans("\t\r\n", "   ")


def _text_line(row: BaseModel) -> bytes:
    values = row.model_dump(mode="json", by_alias=False).values()
    cells = (_cell(value).translate(_SEPARATORS) for value in values)
    return ("\t".join(cells) + "\n").encode()
