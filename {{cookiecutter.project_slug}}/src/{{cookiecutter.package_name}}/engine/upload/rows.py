"""The rows of a request body, split and parsed as its chunks arrive.

A record of JSON Lines is one line. A record of CSV ends where Python's csv module ends it, even if
it is malformed: then the record is reported, and the rows after it are still read. A quoted field
without its closing quote extends to the end of the body, or to the limit of a row, which ends the
request: guessing the intended end could produce wrong rows.

Sources: jsonlines.org; RFC 8259 (JSON); RFC 4180 (CSV).
"""

import codecs
import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from threading import Lock
from typing import Any

from pydantic import TypeAdapter

from ..kernel.body import TOO_LARGE
from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem, ProblemType

#: Bytes of a row.
ROW_LIMIT = 1 << 20
#: Rows and bytes that are validated in one turn of the event loop: a few milliseconds.
BATCH_ROWS = 250
BATCH_BYTES = 16 << 10
#: Fields of a row of CSV; each row becomes an object with as many names.
MAX_COLUMNS = 20_000

MALFORMED_ROWS = ProblemType(
    "malformed-rows",
    "The rows cannot be read",
    "Rows must be lines of UTF-8 that end with LF or CRLF, and the first row of CSV must give each"
    " field a different name. `detail` describes the error. No row was accepted.",
)

#: The number of its first line, counted from 1, and the content of a row.
Record = tuple[int, Any]

_CARRIAGE_RETURN = "has a carriage return within a line: lines end with LF or CRLF."
_MARK = "begins with a byte order mark."
_NOT_CLOSED = "has a quoted field that is not closed, so the rest of the body belongs to it."
_NOT_UTF8 = "is not UTF-8."
_NUL = "has a NUL character."
_STRAY_QUOTE = "has a quoted field that does not end at its closing quote."

#: The csv module has one limit on the size of fields (128 KiB) for the whole process.
_FIELD_LIMIT = Lock()


class Rows(ABC):
    """Splits the chunks of a body into records, wherever the chunks end, and parses these."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._adapter = adapter
        self._held = bytearray()  # The bytes of an incomplete record.
        self._line = 1  # The number of its first line.
        self._has_begun = False

    @abstractmethod
    def parse(self, content: Any) -> Any:
        """Return the row of a record; raises ValidationError, or ValueError with the reason."""

    @abstractmethod
    def _cut(self, size: int, is_last: bool) -> Iterator[Record | None]:
        """Yield the records that end in the first `size` bytes held, and remove their bytes.

        These bytes are complete lines, except at the end of the body. An empty line yields None: it
        is not a record, but it counts for the size of a batch. Raises Problem 400 for an invalid
        header row, and 413 when the first record is too long.
        """

    def feed(self, chunk: bytes) -> Iterator[list[Record]]:
        """Yield batches of the records that end in a chunk.

        Some are empty, because reading bytes without a record takes time too. Raises Problem 413
        after them when the next record is too long, and Problem 400 for UTF-16 or an invalid header
        row.
        """
        # A block is shorter than ROW_LIMIT, so only the first record held can be too long.
        for start in range(0, len(chunk), BATCH_BYTES):
            block = chunk[start : start + BATCH_BYTES]
            self._held += block
            if not self._has_begun and (len(self._held) > 3 or b"\n" in block):
                self._skip_mark()
            if b"\n" in block:
                yield from self._batches(self._held.rfind(b"\n") + 1, is_last=False)
            if len(self._held) > ROW_LIMIT:
                raise self._too_long()
            if len(block) == BATCH_BYTES:
                yield []

    def end(self) -> Iterator[list[Record]]:
        """Yield the records that remain at the end of the body, complete or not."""
        if not self._has_begun:
            self._skip_mark()
        return self._batches(len(self._held), is_last=True)

    def _batches(self, size: int, is_last: bool) -> Iterator[list[Record]]:
        records = self._cut(size, is_last)
        while batch := self._take(records):
            yield [record for record in batch if record]

    def _take(self, records: Iterator[Record | None]) -> list[Record | None]:
        return list(islice(records, BATCH_ROWS))

    def _skip_mark(self) -> None:
        """Remove a byte order mark, which some programs write; raises Problem 400 for UTF-16."""
        self._has_begun = True
        first = self._held[:4]
        marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
        # Most text begins with ASCII: in UTF-16 and UTF-32 two of its first four bytes are 0.
        if first.startswith(marks) or b"\0\0" in (first[0::2], first[1::2]):
            raise Problem(400, "The body is UTF-16 or UTF-32: send UTF-8.", type=MALFORMED_ROWS)
        if first.startswith(codecs.BOM_UTF8):
            del self._held[: len(codecs.BOM_UTF8)]

    def _too_long(self) -> Problem:
        detail = f"The row that begins in line {self._line} has more than {ROW_LIMIT} bytes."
        if b"\r" in self._held and b"\n" not in self._held:
            detail += f" It {_CARRIAGE_RETURN}"
        return Problem(413, detail, type=TOO_LARGE, limit=ROW_LIMIT)


class JsonRows(Rows):
    """One JSON value per line."""

    def parse(self, content: bytes) -> Any:
        return self._adapter.validate_json(content)

    def _cut(self, size: int, is_last: bool) -> Iterator[Record | None]:
        lines = bytes(self._held[:size]).removesuffix(b"\n").split(b"\n")
        if len(lines[0]) > ROW_LIMIT:
            raise self._too_long()
        del self._held[:size]
        for line in lines:
            yield (self._line, line) if line.strip(b" \t\r") else None
            self._line += 1


class CsvRows(Rows):
    """Comma-separated values; the first record names the fields, unless `names` does."""

    def __init__(self, adapter: TypeAdapter[Any], names: Sequence[str] = ()) -> None:
        super().__init__(adapter)
        self._names = names
        self._quoted = 0  # Leading bytes held whose lines all end within one quoted field.

    def parse(self, content: list[str] | str) -> Any:
        """Return the row of these values; raises ValueError with text, which is an error."""
        if isinstance(content, str):
            raise ValueError(content)
        if len(content) != len(self._names):
            raise ValueError(f"has {len(content)} fields, not {len(self._names)}.")
        return self._adapter.validate_strings(dict(zip(self._names, content, strict=True)))

    def _cut(self, size: int, is_last: bool) -> Iterator[Record | None]:
        if self._quoted and not is_last and self._goes_on(size):
            return
        text, is_odd = _decoded(self._held[:size])
        lines, borders = io.StringIO(text, newline="\n"), io.StringIO(text, newline="")
        reader = csv.reader(lines, strict=True)
        start = 0
        while start < len(text):
            values, flaw, before = [], "", reader.line_num
            try:
                values = next(reader)
                end, line = lines.tell(), self._line + reader.line_num - before
            except csv.Error:
                end, flaw = _end_of_malformed(text, borders, start)
                if flaw == _NOT_CLOSED and not is_last:
                    break  # The next chunk may close the field.
                lines.seek(end)
                line = self._line + text.count("\n", start, end)
            if size > ROW_LIMIT and not start and len(_encoded(text[:end])) > ROW_LIMIT + 1:
                raise self._too_long()
            if is_odd and not flaw:
                flaw = flaw_of(_encoded("".join(values)))
            if not self._names and (values or flaw):
                self._names = _header(values, flaw)
            else:
                yield (self._line, flaw or values) if values or flaw else None
            start, self._line = end, line
        self._quoted = len(_encoded(text[start:]))
        del self._held[: size - self._quoted]

    def _take(self, records: Iterator[Record | None]) -> list[Record | None]:
        with _FIELD_LIMIT:
            limit = csv.field_size_limit(2 * ROW_LIMIT)  # ROW_LIMIT applies first.
            try:
                return super()._take(records)
            finally:
                csv.field_size_limit(limit)

    def _goes_on(self, size: int) -> bool:
        """Whether the open field extends to the end of `size` bytes; reads the new lines only."""
        text = '"' + _decoded(self._held[self._quoted : size])[0]
        _, flaw = _end_of_malformed(text, io.StringIO(text, newline=""), 0)
        if flaw == _NOT_CLOSED:
            self._quoted = size
        return flaw == _NOT_CLOSED


def flaw_of(data: bytes) -> str:
    """Return the reason why bytes are not text; empty if they are."""
    if b"\0" in data:
        return _NUL
    try:
        data.decode()
    except UnicodeDecodeError:
        return _NOT_UTF8
    return ""


def flaw_of_line(line: bytes) -> str:
    """Return the reason why a line is not JSON, or "" if the reason is visible in the line."""
    if line.startswith(codecs.BOM_UTF8):
        return _MARK
    return flaw_of(line) or (_CARRIAGE_RETURN if b"\r" in line.rstrip(b"\r") else "")


def _end_of_malformed(text: str, lines: io.StringIO, start: int) -> tuple[int, str]:
    """Return the end of the malformed record that begins at `start`, and the reason.

    A lone carriage return ends a record of the csv module. Here the record continues to the end of
    the line, because the carriage return is most often a character of a field.
    """
    flaw = _STRAY_QUOTE
    # The reader asks for another line only within quotes, which this one closes.
    closing = iter('"')
    lines.seek(start)
    for _ in csv.reader(chain(lines, closing)):
        end = lines.tell()
        if end == len(text):
            return end, flaw if next(closing, None) else _NOT_CLOSED
        if text[end - 1] == "\n":
            break
        flaw = _CARRIAGE_RETURN
    return end, flaw


def _header(names: list[str], flaw: str) -> list[str]:
    """Return the names of the fields; raises Problem 400."""
    if not flaw and names[0].startswith("\ufeff"):
        flaw = _MARK  # The body begins with two byte order marks.
    if len(names) > MAX_COLUMNS:
        BOUNDS["upload.max_columns"] += 1
        raise Problem(413, f"A row may have at most {MAX_COLUMNS} fields.", type=TOO_LARGE)
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            flaw = flaw or f"has no name for field {number}."
        elif first.setdefault(name, number) < number:
            flaw = flaw or f"has the same name for fields {first[name]} and {number}."
    if flaw:
        raise Problem(400, f"The header row {flaw}", type=MALFORMED_ROWS)
    return names


def _decoded(data: bytearray) -> tuple[str, bool]:
    """Return the text, and whether it has NUL or bytes that are not UTF-8."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="surrogateescape"), True
    return text, "\0" in text


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
