"""Exports: typed rows, generated as they are sent, as JSON Lines, CSV or plain text.

CSV and text have no end marker, so a failure is visible only as an aborted connection.
Sources: RFC 9110, section 12.5.1 (Accept); RFC 4180 (CSV).
"""

import csv
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar, get_args, get_origin

import pydantic_core
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ..kernel.admission import Admission
from ..kernel.fields import joined
from ..kernel.problem import Problem
from ..streams.codings import negotiate_coding, weights
from ..streams.pull import ByteStream
from ..streams.rows import JsonLines, described, in_batches

Export = TypeVar("Export", bound=Callable[..., AsyncGenerator[Any]])
Rows = AsyncGenerator[BaseModel]

_ADMISSION = Depends(Admission("download"))
#: Characters that would end a cell or a line of plain text.
_SEPARATORS = str.maketrans("\t\r\n", "   ")


class ExportRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of rows."""

    def export(self, path: str, **options: Any) -> Callable[[Export], Export]:
        """Register a generator, `async def …(…) -> AsyncGenerator[Model]`, for GET and HEAD.

        Its parameters are those of a path operation, its docstring the documentation, and the
        annotated model has the fields of a row. The first row is requested before the headers are
        sent, so the generator may raise a Problem until then. It is closed as soon as the client
        leaves: open resources with `async with` or `try … finally`. `options` are those of
        `APIRouter.get`.
        """

        def register(rows: Export) -> Export:
            signature = inspect.signature(rows, eval_str=True)
            model = _model_of(rows, signature.return_annotation)

            async def send(request: Request, **query: Any) -> ByteStream:
                response = negotiate(joined(request.headers, "accept"))
                coding = negotiate_coding(joined(request.headers, "accept-encoding"))
                headers = {"Vary": "Accept, Accept-Encoding"}
                if "request" in signature.parameters:
                    query["request"] = request
                return response(rows(**query), model, headers=headers, coding=coding)

            # The parameters that FastAPI sees: the request, and those of the generator.
            own = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
            given = {**signature.parameters, "request": own}.values()
            endpoint: Any = send
            endpoint.__signature__ = inspect.Signature(
                [each.replace(kind=own.kind) for each in given]
            )
            content: dict[str, Any] = {name: {"schema": {"type": "string"}} for name in FORMATS}
            content |= described(model)
            usual: dict[str, Any] = {
                "name": f"export_{rows.__name__}",
                "description": inspect.getdoc(rows),
                "response_class": Response,
                "responses": {200: {"content": content}, 406: {}},
            }
            dependencies = [_ADMISSION, *options.pop("dependencies", ())]
            self.get(path, dependencies=dependencies, **(usual | options))(endpoint)
            self.head(path, dependencies=dependencies, include_in_schema=False)(endpoint)
            return rows

        return register


def _model_of(rows: Callable[..., Any], annotation: Any) -> type[BaseModel]:
    """Return the annotated model of the rows; raises TypeError without one."""
    model = next(iter(get_args(annotation)), None)
    generates = get_origin(annotation) in (AsyncGenerator, AsyncIterator, AsyncIterable)
    if generates and isinstance(model, type) and issubclass(model, BaseModel):
        return model
    name = rows.__name__
    raise TypeError(f"an export has to be `async def {name}(…) -> AsyncGenerator[Model]`")


def negotiate(accept: str) -> Callable[..., ByteStream]:
    """Return the format that an Accept header prefers; raises Problem 406 if it accepts none.

    Equal preferences take the order of FORMATS; an empty header accepts everything.
    """
    wanted = weights(accept) or {"*/*": 1.0}

    def quality(name: str) -> float:
        # The quality of the most specific media range.
        ranges = (name, name.partition("/")[0] + "/*", "*/*")
        return next((wanted[one] for one in ranges if one in wanted), 0.0)

    best = max(FORMATS, key=quality)
    if not quality(best):
        detail = f"The available formats are {', '.join(FORMATS)}."
        raise Problem(406, detail, headers={"Vary": "Accept"})
    return FORMATS[best]


def _as_jsonl(rows: Rows, model: type[BaseModel], **options: Any) -> ByteStream:
    return JsonLines(rows, **options)


def _as_csv(rows: Rows, model: type[BaseModel], **options: Any) -> ByteStream:
    lines = _CsvLines(model)
    source = in_batches(rows, lines.encode, lines.end)
    return ByteStream(source, media_type="text/csv", **options)


def _as_text(rows: Rows, model: type[BaseModel], **options: Any) -> ByteStream:
    """Send rows as lines of tab-separated values."""
    return ByteStream(in_batches(rows, _text_line), media_type="text/plain", **options)


#: In order of preference.
FORMATS: dict[str, Callable[..., ByteStream]] = {
    "application/jsonl": _as_jsonl,
    "text/csv": _as_csv,
    "text/plain": _as_text,
}


class _Echo:
    """A file for the csv module whose `write` returns the line."""

    def write(self, line: str) -> str:
        return line


class _CsvLines:
    """Encodes rows as CSV; the header line precedes the first row, and is sent without rows too."""

    def __init__(self, model: type[BaseModel]) -> None:
        fields = [name for name, field in model.model_fields.items() if not field.exclude]
        self._names = [*fields, *model.model_computed_fields]
        self._write: Callable[[list[str]], str] = csv.writer(_Echo()).writerow
        self._header: bytes = self._write(self._names).encode()

    def encode(self, row: BaseModel) -> bytes:
        values = row.model_dump(mode="json", by_alias=False)
        return self.end() + self._write([_cell(values.get(name)) for name in self._names]).encode()

    def end(self) -> bytes:
        header, self._header = self._header, b""
        return header


def _text_line(row: BaseModel) -> bytes:
    values = row.model_dump(mode="json", by_alias=False).values()
    cells = (_cell(value).translate(_SEPARATORS) for value in values)
    return ("\t".join(cells) + "\n").encode()


def _cell(value: Any) -> str:
    """Return a string unchanged, null as nothing, and other values as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    text = pydantic_core.to_json(value, inf_nan_mode="null").decode()
    return "" if text == "null" else text
