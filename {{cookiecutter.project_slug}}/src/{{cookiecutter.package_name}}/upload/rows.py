"""The rows of a request body: cut out of the chunks in which they arrive, and validated.

A row ends where its line does, except within a quoted field of CSV, which may hold line breaks.
Sources: jsonlines.org; RFC 4180 (CSV).
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from operator import not_
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from ..streaming import TOO_LARGE, Problem, places, problem_type

ROW_LIMIT = 1 << 20
#: What is validated at a stretch: a few milliseconds of the event loop.
BATCH_ROWS = 250
BATCH_BYTES = 64 << 10
#: The errors of one row, and those of one report, that are told one by one.
MAX_ERRORS = 100

MALFORMED_ROWS = problem_type(
    "malformed-rows",
    "The rows have no header",
    "The first row of CSV gives each field a name of its own. Nothing was taken in.",
)

Line = bytes | bytearray
#: The number of its first line, counted from 1, and its bytes without the last line break.
Record = tuple[int, Line]

# The csv module has one limit on fields (128 KiB) for the whole process; ours is that on rows.
csv.field_size_limit(ROW_LIMIT)


class JsonRows:
    """One JSON value per line."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._validate = adapter.validate_json

    def goes_on(self, line: Line) -> bool:
        """Tell whether a record goes on behind its first line, whose number of `"` is odd."""
        return False

    def parse(self, record: Line) -> list[Any]:
        """Return the row of a record, as a list; raises ValidationError."""
        return [self._validate(record)]


class CsvRows:
    """Values separated by commas; the first record names the fields."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._validate = adapter.validate_strings
        self._names: list[str] = []

    def goes_on(self, line: Line) -> bool:
        """Tell whether a record goes on behind its first line, whose number of `"` is odd."""
        lines = iter((line.decode(errors="replace"), '"'))
        with suppress(csv.Error):
            next(csv.reader(lines))
        # The reader asks for another line only within quotes; any other `"` is a character.
        return next(lines, None) is None

    def parse(self, record: Line) -> list[Any]:
        """Return the row of a record, none for the header; raises ValidationError, Problem 400."""
        try:
            values = next(csv.reader((record.decode(),), strict=True))
        except (csv.Error, UnicodeDecodeError):
            values = []
        if not self._names:
            if not values or "" in values or len(set(values)) < len(values):
                detail = "The header row must give each field a name of its own."
                raise Problem(400, detail, type=MALFORMED_ROWS)
            self._names = values
            return []
        if not values:
            raise _invalid("csv_invalid", "The row is not valid CSV in UTF-8.")
        if len(values) != len(self._names):
            raise _invalid("csv_fields", "The row has another number of fields than the header.")
        return [self._validate(dict(zip(self._names, values, strict=True)))]


class Records:
    """Cuts chunks into records, however their lines are spread over them."""

    def __init__(self, goes_on: Callable[[Line], bool]) -> None:
        self._goes_on = goes_on
        self._held = bytearray()  # What has arrived of a record that has not ended.
        self._odd = 0  # Whether its number of `"` is odd.
        self._first = self._line = 1

    def feed(self, chunk: bytes) -> Iterator[list[Record]]:
        """Yield batches of the records that end in a chunk.

        Raises Problem 413 behind them when the next one is longer than a row may be.
        """
        batch: list[Record] = []
        start = begun = 0
        while 0 <= (end := chunk.find(b"\n", start)) <= start + ROW_LIMIT - len(self._held):
            record = self._end_line(chunk[start:end])
            start = end + 1
            if record:
                batch.append(record)
            if len(batch) == BATCH_ROWS or start - begun >= BATCH_BYTES:
                yield batch
                batch, begun = [], start
        if batch:
            yield batch
        rest = chunk[start:]
        self._held += rest
        self._odd ^= rest.count(b'"') & 1
        if len(self._held) > ROW_LIMIT:
            detail = f"A row may have at most {ROW_LIMIT} bytes."
            raise Problem(413, detail, type=TOO_LARGE, limit=ROW_LIMIT)

    def end(self) -> list[Record]:
        """Return the record that the body ended in, if any, whole or not."""
        self._odd = 0
        record = self._end_line(b"")
        return [record] if record else []

    def _end_line(self, rest: bytes) -> Record | None:
        """Take the rest of a line; return the record that ends with it, unless it is blank."""
        record: Line = rest
        if self._held:
            self._held += rest
            record = self._held
        if self._line == 1:
            record = record.removeprefix(b"\xef\xbb\xbf")
        self._odd ^= rest.count(b'"') & 1
        # Later lines are only counted, so that a record of many takes no more time than one.
        if self._odd and (self._first < self._line or self._goes_on(record)):
            if record is not self._held:
                self._held = bytearray(record)
            self._held += b"\n"
            self._line += 1
            return None
        first = self._first
        self._first = self._line = self._line + 1
        self._held, self._odd = bytearray(), 0
        return (first, record) if record.strip() else None


class RowError(BaseModel):
    """What is wrong with a row: a JSON Pointer into it, and why."""

    pointer: str
    detail: str


class Result(BaseModel):
    """What became of the row that begins in a line; accepted is what has been consumed."""

    line: int
    accepted: bool
    errors: Annotated[list[RowError], Field(exclude_if=not_)] = []


class LineError(RowError):
    """An error of the row that begins in a line."""

    line: int


class Report(BaseModel):
    """What became of all rows; of their errors, the first."""

    accepted: int = 0
    rejected: int = 0
    errors: list[LineError] = []

    def add(self, results: list[Result]) -> None:
        for result in results:
            self.accepted += result.accepted
            self.rejected += not result.accepted
            if result.errors and len(self.errors) < MAX_ERRORS:
                told = [LineError(line=result.line, **one.model_dump()) for one in result.errors]
                self.errors = (self.errors + told)[:MAX_ERRORS]


def validate(
    parse: Callable[[Line], list[Any]], batch: list[Record]
) -> tuple[list[Any], list[Result]]:
    """Return the valid rows of a batch, and the results of all."""
    valid: list[Any] = []
    results = []
    for line, record in batch:
        try:
            rows = parse(record)
        except ValidationError as error:
            results.append(Result(line=line, accepted=False, errors=_errors(error)))
        else:
            valid += rows
            results += [Result(line=line, accepted=True) for _ in rows]
    return valid, results


def _errors(error: ValidationError) -> list[RowError]:
    count = error.error_count()
    if count > MAX_ERRORS:
        return [RowError(pointer="", detail=f"The row has {count} errors.")]
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return [RowError(**place) for place in places(errors)]


def _invalid(code: str, detail: Any) -> ValidationError:
    error = PydanticCustomError(code, detail)
    return ValidationError.from_exception_data("row", [{"type": error, "loc": (), "input": None}])
