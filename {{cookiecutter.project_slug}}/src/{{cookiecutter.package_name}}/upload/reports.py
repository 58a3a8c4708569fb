"""What becomes of the rows of a body, and how it is reported: one by one, or all at the end."""

from operator import not_
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from ..streaming import places
from .rows import Record, Rows

#: The errors of one row, and those of one report, that are told one by one.
MAX_ERRORS = 100


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

    def room(self) -> int:
        """Return how many errors more are told one by one."""
        return MAX_ERRORS - len(self.errors)

    def add(self, accepted: int, rejected: int, errors: list[LineError]) -> None:
        self.accepted += accepted
        self.rejected += rejected
        self.errors += errors[: self.room()]


def sift(rows: Rows, batch: list[Record], room: int) -> tuple[list[Any], list[LineError]]:
    """Return the valid rows of a batch, and errors of the others while there is room for them.

    To explain an error costs ten times what it costs to find it.
    """
    valid: list[Any] = []
    errors: list[LineError] = []
    for line, content in batch:
        try:
            valid.append(rows.row(content))
        except ValueError:
            if len(errors) < room:
                _, results = validate(rows, [(line, content)])
                errors += line_errors(results)
    return valid, errors


def line_errors(results: list[Result]) -> list[LineError]:
    return [
        LineError(line=result.line, **error.model_dump())
        for result in results
        for error in result.errors
    ]


def validate(rows: Rows, batch: list[Record]) -> tuple[list[Any], list[Result]]:
    """Return the valid rows of a batch, and the results of all."""
    valid: list[Any] = []
    results = []
    for line, content in batch:
        try:
            valid.append(rows.parse(content))
            results.append(Result(line=line, accepted=True))
        except ValidationError as error:
            results.append(Result(line=line, accepted=False, errors=_errors(error)))
    return valid, results


def _errors(error: ValidationError) -> list[RowError]:
    count = error.error_count()
    if count > MAX_ERRORS:
        return [RowError(pointer="", detail=f"The row has {count} errors.")]
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return [RowError(**place) for place in places(errors)]
