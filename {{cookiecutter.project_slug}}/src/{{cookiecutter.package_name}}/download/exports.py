"""Exports: typed rows, made as they are sent, in the format that the client accepts.

A new export is one decorated asynchronous generator in this file: its parameters become query
parameters, its docstring the documentation, the model that it is annotated with the fields of a
row. Its first row is made before the headers are sent, so it may still raise a Problem. When the
client leaves it is closed at once: open what it needs with `async with` or `try … finally`.
"""

import asyncio
import atexit
import inspect
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from ..streaming import ByteStream, described, in_thread, joined, negotiate_coding
from .formats import FORMATS, negotiate

Export = TypeVar("Export", bound=Callable[..., AsyncGenerator[Any]])

router = APIRouter()


def export(name: str, router: APIRouter = router) -> Callable[[Export], Export]:
    """Register a generator, `async def …(…) -> AsyncGenerator[Model]`, as `GET /exports/{name}`."""

    def register(rows: Export) -> Export:
        signature = inspect.signature(rows, eval_str=True)
        model = get_args(signature.return_annotation)[0]

        async def send(request: Request, **query: Any) -> ByteStream:
            answer = negotiate(joined(request.headers, "accept"))
            coding = negotiate_coding(joined(request.headers, "accept-encoding"))
            headers = {"Vary": "Accept, Accept-Encoding"}
            if "request" in signature.parameters:
                query["request"] = request
            return answer(rows(**query), model, headers=headers, coding=coding)

        # The parameters that FastAPI sees: the request, and those of the generator.
        own = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        given = {**signature.parameters, "request": own}.values()
        endpoint: Any = send
        endpoint.__signature__ = inspect.Signature([each.replace(kind=own.kind) for each in given])
        path = f"/exports/{name}"
        router.get(
            path,
            name=f"export_{name}",
            description=inspect.getdoc(rows),
            response_class=Response,
            responses={200: {"content": _content(path, model)}, 406: {}},
        )(endpoint)
        router.head(path, include_in_schema=False)(endpoint)
        return rows

    return register


def _content(path: str, model: type[BaseModel]) -> dict[str, Any]:
    content: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in FORMATS}
    return content | described(model, path)


class Line(BaseModel):
    """A row of the first example."""

    number: int
    text: str


@export("lines")
async def lines(
    count: Annotated[int, Query(ge=0, le=10_000)] = 10,
    # Not in OpenAPI: what it makes of an answer is none.
    fail_after: Annotated[int | None, Query(ge=0, include_in_schema=False)] = None,
) -> AsyncGenerator[Line]:
    """Numbered lines; `fail_after` shows what a client sees of a failure half-way."""
    for number in range(1, count + 1):
        if number - 1 == fail_after:
            raise RuntimeError(f"the example failed behind line {fail_after}")
        await asyncio.sleep(0)  # Stands for whatever a real source waits for.
        yield Line(number=number, text=f"line {number}")


class Measurement(BaseModel):
    """A row of the second example."""

    id: int
    sensor: str
    measured_at: datetime
    value: float
    note: str | None


PAGE = 1000
EXAMPLE_ROWS = 20_000


@export("table")
async def table(
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="Begin behind this id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
) -> AsyncGenerator[Measurement]:
    """Rows of a table in SQLite, page by page: a slow client holds no connection."""
    while page := await in_thread(None, _page, after, min(PAGE, limit)):
        for row in page:
            yield Measurement(**row)
        after = page[-1]["id"]
        limit -= len(page)


def _page(after: int, limit: int) -> list[sqlite3.Row]:
    statement = "SELECT * FROM measurements WHERE id > ? ORDER BY id LIMIT ?"
    with closing(sqlite3.connect(_example())) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(statement, (after, limit)).fetchall()


@cache
def _example() -> Path:
    """Make the table of the example; it is removed when the process ends."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = Path(directory, "example.sqlite3")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE measurements ("
            " id INTEGER PRIMARY KEY, sensor TEXT, measured_at TEXT, value REAL, note TEXT)"
        )
        connection.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT ?)"
            " INSERT INTO measurements SELECT n, printf('sensor-%d', n % 40),"
            " strftime('%Y-%m-%dT%H:%M:%SZ', 1700000000 + 60 * n, 'unixepoch'),"
            " n * 37 % 1000 / 10.0, CASE WHEN n % 10 = 0 THEN 'calibrated' END FROM numbers",
            (EXAMPLE_ROWS,),
        )
    return path
