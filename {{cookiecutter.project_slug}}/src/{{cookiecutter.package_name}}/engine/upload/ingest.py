"""Ingestions: typed rows, validated as they arrive and handed on in batches.

Sources: jsonlines.org; RFC 4180.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar, get_args

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException

from ..kernel.admission import Admission
from ..kernel.body import RequestBody
from ..kernel.exchange import exchange_of
from ..kernel.problem import Problem
from ..streams.content import require_text
from .reports import Report, sift
from .rows import CsvRows, JsonRows, Record, Rows

Ingestion = TypeVar("Ingestion", bound=Callable[..., Awaitable[None]])
Consume = Callable[[list[Any]], Awaitable[None]]

logger = logging.getLogger(__name__)

_ADMISSION = Depends(Admission("upload"))

CSV = "text/csv"
FORMATS = ("application/jsonl", "application/x-ndjson", CSV)

_ROWS = "A row per line; the first line of CSV has the names of their members."
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is UTF-16, or the header row of the CSV is not valid."},
    413: {},
    415: {},
}


@dataclass
class _Intake:
    """One request, and its rows on their way to the consumer."""

    request: Request
    rows: Rows
    consume: Consume
    report: Report = field(default_factory=Report)

    async def take(self) -> Report:
        """Read the body, and report what became of its rows."""
        try:
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    if batch:
                        await self._take(batch)
        except Problem as problem:
            problem.members.update(self.report.model_dump())  # What is done is done.
            raise
        return self.report

    async def _batches(self) -> AsyncGenerator[list[Record]]:
        limit = self.request.app.state.settings.upload.max_size
        async for chunk in RequestBody(self.request, limit):
            for batch in self.rows.feed(chunk):
                yield batch
                await asyncio.sleep(0)  # To validate is not to wait: let others run.
        for batch in self.rows.end():
            yield batch

    async def _take(self, batch: list[Record]) -> None:
        valid, errors = sift(self.rows, batch, self.report.room())
        try:
            if valid:
                await self.consume(valid)
        except HTTPException:
            raise
        except Exception as error:
            exchange = exchange_of(self.request.scope)
            logger.exception("%s failed: id=%s", exchange.route, exchange.request_id)
            raise Problem(500, "The rows could not be taken in.") from error
        self.report.add(len(valid), len(batch) - len(valid), errors)


class IngestRouter(APIRouter):
    """An APIRouter with one more decorator, for functions that take rows."""

    def ingest(self, path: str, **options: Any) -> Callable[[Ingestion], Ingestion]:
        """Register a consumer, `async def …(rows: list[Model], …) -> None`, for POST.

        Its first parameter has the model of a row, further ones are those of a path operation, its
        docstring is the documentation. The body is read on when it has returned: a slow database
        slows its client, and nothing piles up. What it raises ends the request, a Problem as it is
        and anything else as 500; the rows that it was given then count as not accepted. `options`
        are those of `APIRouter.post`.
        """

        def register(consume: Ingestion) -> Ingestion:
            rows, *given = inspect.signature(consume, eval_str=True).parameters.values()
            if not (models := get_args(rows.annotation)):
                name = consume.__name__
                raise TypeError(f"an ingestion has to be `async def {name}(rows: list[Model], …)`")
            adapter: TypeAdapter[Any] = TypeAdapter(models[0])

            async def bind(**parameters: Any) -> Consume:
                return partial(consume, **parameters)  # A synchronous dependency has a thread.

            # The parameters that FastAPI sees: all but the rows.
            kind = inspect.Parameter.KEYWORD_ONLY
            bound: Any = bind
            bound.__signature__ = inspect.Signature([each.replace(kind=kind) for each in given])
            usual: dict[str, Any] = {
                "name": f"ingest_{consume.__name__}",
                "description": inspect.getdoc(consume),
                "response_model": Report,
                "responses": _RESPONSES,
                "openapi_extra": _request_body(adapter),
            }
            dependencies = [_ADMISSION, *options.pop("dependencies", ())]

            @self.post(path, dependencies=dependencies, **(usual | options))
            async def ingest(
                request: Request, consume: Annotated[Consume, Depends(bound)]
            ) -> Report:
                return await _Intake(request, _rows_of(request, adapter), consume).take()

            return consume

        return register


def _request_body(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    row = {"itemSchema": adapter.json_schema()}
    content = {each: {} if each == CSV else row for each in FORMATS}
    return {"requestBody": {"description": _ROWS, "content": content}}


def _rows_of(request: Request, adapter: TypeAdapter[Any]) -> Rows:
    """Return the reader of a body; raises Problem 415.

    CSV may come without a header (RFC 4180, section 3): then its fields are the model's, in order.
    """
    media_type, parameters = require_text(request, *FORMATS)
    if media_type != CSV:
        return JsonRows(adapter)
    match parameters.get("header", "present").lower():
        case "present":
            return CsvRows(adapter)
        case "absent" if names := adapter.json_schema().get("properties"):
            return CsvRows(adapter, list(names))
    raise Problem(415, "The fields of this CSV have no names: send them as its first row.")
