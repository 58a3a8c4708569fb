"""Exports: rows as JSON Lines, CSV or text, generated while they are sent.

An export is an asynchronous generator: its parameters are query parameters, its docstring
documents the route, and the fields of the model that it yields are the columns.
"""

import asyncio
import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncGenerator
from contextlib import closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from .engine.download import ExportRouter

router = ExportRouter(prefix="/exports", tags=["download"])


class Line(BaseModel):
    """A row of the first example."""

    number: int
    text: str


@router.export("/lines")
async def lines(
    count: Annotated[int, Query(ge=0, le=10_000)] = 10,
    # Excluded from OpenAPI, because it only demonstrates a response that fails.
    fail_after: Annotated[int | None, Query(ge=0, include_in_schema=False)] = None,
) -> AsyncGenerator[Line]:
    """Numbered lines; `fail_after` demonstrates a failure half-way."""
    for number in range(1, count + 1):
        if number - 1 == fail_after:
            raise RuntimeError(f"the example failed after line {fail_after}")
        await asyncio.sleep(0)  # Placeholder for the I/O of a real source.
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


@router.export("/table")
async def table(
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="Start after this id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
) -> AsyncGenerator[Measurement]:
    """Rows of an SQLite table, read page by page, so that a slow client holds no connection."""
    while page := await asyncio.to_thread(_page, after, min(PAGE, limit)):
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
    """Create the database of the example, which is deleted when the process ends."""
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
