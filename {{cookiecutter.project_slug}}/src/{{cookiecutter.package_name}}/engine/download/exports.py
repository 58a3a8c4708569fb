"""Exports: typed rows, generated as they are sent, as JSON Lines, CSV or plain text.

CSV and text have no end marker, so a failure is visible only as an aborted connection.
Sources: RFC 9110, section 12.5.1 (Accept); RFC 4180 (CSV); OWASP, "CSV Injection" (formulas).
"""

import csv
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import pydantic_core
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from ..kernel.admission import Admission
from ..kernel.fields import joined
from ..kernel.problem import Problem
from ..streams.codings import negotiate_coding, weights
from ..streams.pull import ByteStream
from ..streams.rows import JsonLines, described, in_batches
from .headers import content_disposition

Export = TypeVar("Export", bound=Callable[..., AsyncGenerator[Any]])
Cell = Callable[[Any], str]

_ADMISSION = Depends(Admission("download"))
#: The formats, by the extension of a file, with their media types; in order of preference.
FORMATS = {"jsonl": "application/jsonl", "csv": "text/csv", "txt": "text/plain"}
Format = Annotated[
    Literal["jsonl", "csv", "txt"] | None,
    Query(description="The format of the rows, for links; takes precedence over `Accept`."),
]
Mark = Annotated[
    bool, Query(description="Begin CSV with a byte order mark: Excel then decodes it as UTF-8.")
]
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
#: The parameters of every export, unless its generator has one of this name.
_OPTIONS = [
    inspect.Parameter("format", _KEYWORD, annotation=Format, default=None),
    inspect.Parameter("bom", _KEYWORD, annotation=Mark, default=False),
]
#: Characters that would end a cell or a line of plain text.
_SEPARATORS = str.maketrans("\t\r\n", "   ")
#: The beginning of a string that spreadsheets calculate, unless all of it is a number.
_FORMULA = re.compile(
    r"(?i)(?![+-]?[0-9.]+(?:e[+-]?[0-9]+)?\Z)[-=+@\t\r\n\uff1d\uff0b\uff0d\uff20]"
)


class ExportRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of rows."""

    def export(
        self, path: str, *, escape_formulas: bool = False, **options: Any
    ) -> Callable[[Export], Export]:
        """Register a generator, `async def …(…) -> AsyncGenerator[Model]`, for GET and HEAD.

        Its parameters are those of a path operation, its docstring the documentation, its name that
        of the file, and the annotated model has the fields of a row. The first row is requested
        before the headers are sent, so the generator may raise a Problem until then. It is closed
        as soon as the client leaves: open resources with `async with` or `try … finally`.

        `escape_formulas`: in CSV and text a `'` precedes strings that a spreadsheet would calculate
        (`=…`), but not numbers. `options` are those of `APIRouter.get`.
        """

        def register(rows: Export) -> Export:
            model = _model_of(rows)
            text = {"schema": {"type": "string"}}
            content: dict[str, Any] = dict.fromkeys(FORMATS.values(), text) | described(model)
            usual: dict[str, Any] = {
                "name": f"export_{rows.__name__}",
                "description": inspect.getdoc(rows),
                "response_class": Response,
                "responses": {200: {"content": content}, 406: {}},
            }
            endpoint = _endpoint(rows, model, _escaped if escape_formulas else _cell)
            dependencies = [_ADMISSION, *options.get("dependencies", ())]
            self.get(path, **(usual | options | {"dependencies": dependencies}))(endpoint)
            self.head(path, dependencies=dependencies, include_in_schema=False)(endpoint)
            return rows

        return register


def _endpoint(rows: Callable[..., Any], model: type[BaseModel], cell: Cell) -> Any:
    """Return a path operation with the parameters of a generator and those of every export."""
    given = inspect.signature(rows, eval_str=True).parameters
    extra = [each for each in _OPTIONS if each.name not in given]

    async def send(request: Request, **query: Any) -> ByteStream:
        options = {each.name: query.pop(each.name) for each in extra}
        kind = options.get("format") or negotiate(joined(request.headers, "accept"))
        headers = {
            "Vary": "Accept, Accept-Encoding",
            "Content-Disposition": content_disposition(f"{rows.__name__}.{kind}"),
            # There is no validator, so that a stored response could not be used again.
            "Cache-Control": "no-store",
        }
        coding = negotiate_coding(joined(request.headers, "accept-encoding"))
        if "request" in given:
            query["request"] = request
        sent: dict[str, Any] = {"headers": headers, "coding": coding}
        if kind == "jsonl":
            return JsonLines(rows(**query), **sent)
        if kind == "csv":
            lines = _CsvLines(model, cell, b"\xef\xbb\xbf" if options.get("bom") else b"")
            source = in_batches(rows(**query), lines.encode, lines.end)
        else:
            source = in_batches(rows(**query), partial(_text_line, cell))
        return ByteStream(source, media_type=FORMATS[kind], **sent)

    # The parameters that FastAPI sees: the request, and those of the generator and of exports.
    own = {"request": inspect.Parameter("request", _KEYWORD, annotation=Request)}
    parameters = [*(dict(given) | own).values(), *extra]
    endpoint: Any = send
    endpoint.__signature__ = inspect.Signature([each.replace(kind=_KEYWORD) for each in parameters])
    return endpoint


def _model_of(rows: Callable[..., Any]) -> type[BaseModel]:
    """Return the annotated model of the rows; raises TypeError without one."""
    annotation = inspect.signature(rows, eval_str=True).return_annotation
    model = next(iter(get_args(annotation)), None)
    generates = get_origin(annotation) in (AsyncGenerator, AsyncIterator, AsyncIterable)
    if generates and isinstance(model, type) and issubclass(model, BaseModel):
        return model
    name = rows.__name__
    raise TypeError(f"an export has to be `async def {name}(…) -> AsyncGenerator[Model]`")


def negotiate(accept: str) -> str:
    """Return the format that an Accept header prefers; raises Problem 406 if it accepts none.

    Equal preferences take the order of FORMATS; an empty header accepts everything.
    """
    wanted = weights(accept) or {"*/*": 1.0}

    def quality(name: str) -> float:
        # The quality of the most specific media range.
        ranges = (FORMATS[name], FORMATS[name].partition("/")[0] + "/*", "*/*")
        return next((wanted[one] for one in ranges if one in wanted), 0.0)

    best = max(FORMATS, key=quality)
    if not quality(best):
        detail = f"The available formats are {', '.join(FORMATS.values())}."
        raise Problem(406, detail, headers={"Vary": "Accept"})
    return best


class _CsvLines:
    """Encodes rows as CSV; the header line precedes the first row, and is sent without rows too."""

    def __init__(self, model: type[BaseModel], cell: Cell, mark: bytes) -> None:
        self._cell = cell
        fields = [name for name, field in model.model_fields.items() if not field.exclude]
        self._names = [*fields, *model.model_computed_fields]
        echo: Any = SimpleNamespace(write=str)  # A file for the csv module that returns the line.
        self._write: Callable[[list[str]], str] = csv.writer(echo).writerow
        self._header: bytes = mark + self._write(self._names).encode()

    def encode(self, row: BaseModel) -> bytes:
        values = row.model_dump(mode="json", by_alias=False)
        cells = [self._cell(values.get(name)) for name in self._names]
        return self.end() + self._write(cells).encode()

    def end(self) -> bytes:
        header, self._header = self._header, b""
        return header


def _text_line(cell: Cell, row: BaseModel) -> bytes:
    values = row.model_dump(mode="json", by_alias=False).values()
    cells = (cell(value).translate(_SEPARATORS) for value in values)
    return ("\t".join(cells) + "\n").encode()


def _cell(value: Any) -> str:
    """Return a string unchanged, null as nothing, and other values as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    text = pydantic_core.to_json(value, inf_nan_mode="null").decode()
    return "" if text == "null" else text


def _escaped(value: Any) -> str:
    """Return a cell that no spreadsheet calculates."""
    text = _cell(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) else text
