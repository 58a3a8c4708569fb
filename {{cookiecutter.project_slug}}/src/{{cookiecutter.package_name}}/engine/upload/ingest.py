"""Ingestions: typed rows, validated as they arrive and passed on in batches.

Sources: jsonlines.org; RFC 4180.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, TypeVar, get_args

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from ..kernel.admission import Admission
from ..kernel.body import RequestBody
from ..kernel.exchange import exchange_of
from ..kernel.problem import Problem, places
from ..streams.content import require_text
from .rows import CsvRows, JsonRows, Record, Rows, flaw_of_line

Ingestion = TypeVar("Ingestion", bound=Callable[..., Awaitable[None]])
Consume = Callable[[list[Any]], Awaitable[None]]

logger = logging.getLogger(__name__)

_ADMISSION = Depends(Admission("upload"))

CSV = "text/csv"
FORMATS = ("application/jsonl", "application/x-ndjson", CSV)
#: The reported errors of one row, and of one body.
MAX_ERRORS = 100

_ROWS = "One row per line; the first line of CSV contains the names of the fields."
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is UTF-16, or the header row of the CSV is not valid."},
    413: {},
    415: {},
}


class LineError(BaseModel):
    """An error in the row that begins in a line; `pointer` is a JSON Pointer into the row."""

    pointer: str
    detail: str
    line: int


class Report(BaseModel):
    """How many rows were accepted and rejected, and the first errors."""

    accepted: int = 0
    rejected: int = 0
    errors: list[LineError] = []


class IngestRouter(APIRouter):
    """An APIRouter with one more decorator, for functions that take rows."""

    def ingest(self, path: str, **options: Any) -> Callable[[Ingestion], Ingestion]:
        """Register a consumer, `async def …(rows: list[Model], …) -> None`, for POST.

        The annotation of its first parameter contains the model of a row, the other parameters are
        those of a path operation, and its docstring is the documentation. The next bytes are read
        after it has returned, so a slow database slows down the client instead of filling the
        memory. An exception ends the request: a Problem becomes the response, any other exception a
        500. The rows of that call then count as not accepted. `options` are those of
        `APIRouter.post`.
        """

        def register(consume: Ingestion) -> Ingestion:
            rows, *given = inspect.signature(consume, eval_str=True).parameters.values()
            if not (models := get_args(rows.annotation)):
                name = consume.__name__
                raise TypeError(f"an ingestion has to be `async def {name}(rows: list[Model], …)`")
            adapter: TypeAdapter[Any] = TypeAdapter(models[0])

            async def bind(**parameters: Any) -> Consume:
                return partial(consume, **parameters)  # Synchronous, it would take a thread.

            # The parameters that FastAPI sees: all except the rows.
            kind = inspect.Parameter.KEYWORD_ONLY
            bound: Any = bind
            bound.__signature__ = inspect.Signature([each.replace(kind=kind) for each in given])
            row = {"itemSchema": adapter.json_schema()}
            content = {media_type: {} if media_type == CSV else row for media_type in FORMATS}
            usual: dict[str, Any] = {
                "name": f"ingest_{consume.__name__}",
                "description": inspect.getdoc(consume),
                "response_model": Report,
                "responses": _RESPONSES,
                "openapi_extra": {"requestBody": {"description": _ROWS, "content": content}},
            }
            dependencies = [_ADMISSION, *options.get("dependencies", ())]

            @self.post(path, **(usual | options | {"dependencies": dependencies}))
            async def ingest(
                request: Request, consume: Annotated[Consume, Depends(bound)]
            ) -> Report:
                return await _ingest(request, _rows_of(request, adapter), consume)

            return consume

        return register


def _rows_of(request: Request, adapter: TypeAdapter[Any]) -> Rows:
    """Return the parser of a body; raises Problem 415.

    CSV may have no header row (RFC 4180, section 3): its fields are then those of the model.
    """
    media_type, parameters = require_text(request, *FORMATS)
    if media_type != CSV:
        return JsonRows(adapter)
    match parameters.get("header", "present").lower():
        case "present":
            return CsvRows(adapter)
        case "absent" if names := adapter.json_schema().get("properties"):
            return CsvRows(adapter, list(names))
    raise Problem(415, "The fields of the CSV have no names: send a header row.")


async def _ingest(request: Request, rows: Rows, consume: Consume) -> Report:
    """Read a body and pass its valid rows to the consumer; errors include the report so far."""
    report = Report()
    try:
        async with aclosing(_batches(request, rows)) as batches:
            async for batch in batches:
                valid, errors = _validated(rows, batch, MAX_ERRORS - len(report.errors))
                try:
                    if valid:
                        await consume(valid)
                except HTTPException:
                    raise
                except Exception as error:
                    exchange = exchange_of(request.scope)
                    logger.exception("%s failed: id=%s", exchange.route, exchange.request_id)
                    raise Problem(500, "The rows could not be processed.") from error
                report.accepted += len(valid)
                report.rejected += len(batch) - len(valid)
                report.errors += errors
    except Problem as problem:
        problem.members.update(report.model_dump())
        raise
    return report


async def _batches(request: Request, rows: Rows) -> AsyncGenerator[list[Record]]:
    async for chunk in RequestBody(request, request.app.state.settings.upload.max_size):
        for batch in rows.feed(chunk):
            yield batch
            await asyncio.sleep(0)  # Validation does not block; give other requests a turn.
    for batch in rows.end():
        yield batch


def _validated(
    rows: Rows, batch: list[Record], max_errors: int
) -> tuple[list[Any], list[LineError]]:
    """Return the valid rows of a batch, and the first errors of the others.

    Explaining an error costs ten times as much as finding it.
    """
    valid: list[Any] = []
    errors: list[LineError] = []
    for line, content in batch:
        try:
            valid.append(rows.parse(content))
        except ValueError as error:
            if len(errors) < max_errors:
                errors += _errors(line, content, error)
    return valid, errors[:max_errors]


def _errors(line: int, content: Any, error: ValueError) -> list[LineError]:
    """Explain why the content of a row is not valid, or how many reasons there are."""
    if not isinstance(error, ValidationError):
        return [LineError(pointer="", detail=f"The row {error}", line=line)]
    if error.error_count() > MAX_ERRORS:
        detail = f"The row has {error.error_count()} errors."
        return [LineError(pointer="", detail=detail, line=line)]
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    is_json = errors[0]["type"] != "json_invalid" or not isinstance(content, bytes)
    if not is_json and (flaw := flaw_of_line(content)):
        return [LineError(pointer="", detail=f"The row {flaw}", line=line)]
    return [LineError(**place, line=line) for place in places(errors)]
