"""What becomes of the rows of a body, as it is reported when the body has ended."""

from typing import Any

from pydantic import BaseModel, ValidationError

from ..kernel.problem import places
from .rows import Record, Rows

#: The errors of one row, and those of one report, that are told one by one.
MAX_ERRORS = 100


class LineError(BaseModel):
    """What is wrong with the row that begins in a line: a JSON Pointer into it, and why."""

    pointer: str
    detail: str
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
                errors += _errors(rows, line, content)
    return valid, errors


def _errors(rows: Rows, line: int, content: Any) -> list[LineError]:
    try:
        rows.parse(content)
    except ValidationError as error:
        count = error.error_count()
        if count > MAX_ERRORS:
            return [LineError(pointer="", detail=f"The row has {count} errors.", line=line)]
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        return [LineError(**place, line=line) for place in places(errors)]
    return []
