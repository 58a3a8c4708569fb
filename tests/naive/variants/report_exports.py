"""Exports of table rows as CSV and JSON lines."""

import csv
import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, BackgroundTasks, Depends, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse

from app_settings import Settings, get_settings
from streaming_kit import CSV_DOC, SAFE_HEADERS, ClosingStream, primed

log = logging.getLogger("exports")
router = APIRouter(prefix="/exports")
Config = Annotated[Settings, Depends(get_settings)]
LIMITER = anyio.CapacityLimiter(8)
NDJSON_DOC = {200: {"content": {"application/x-ndjson": {}}}}


def to_csv(row) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(row)
    return buffer.getvalue()


class RowSource:
    def __init__(self, settings: Config) -> None:
        self.path = settings.catalog

    def rows(self, table_id: int) -> Iterator[tuple]:
        connection = sqlite3.connect(self.path, check_same_thread=False)
        cursor = connection.execute("select * from entry where table_id = ?", (table_id,))
        try:
            yield from cursor
        finally:
            connection.close()

    async def lines(self, table_id: int) -> AsyncIterator[str]:
        for row in self.rows(table_id):  # trap: U12
            yield json.dumps(row) + "\n"

    async def checked(self, table_id: int) -> AsyncIterator[str]:
        if table_id <= 0:
            raise HTTPException(status_code=404, detail="no such table")
        try:
            for row in await anyio.to_thread.run_sync(self.page, table_id, 0):
                yield json.dumps(row) + "\n"
                await anyio.sleep(0)
        except Exception as exc:  # trap: D13
            log.error("export failed: %s", exc)

    def page(self, table_id: int, offset: int, size: int = 500) -> list[tuple]:
        query = "select * from entry where table_id = ? order by rowid limit ? offset ?"
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query, (table_id, size, offset)).fetchall()

    async def pages(self, table_id: int) -> AsyncIterator[str]:
        offset = 0
        while page := await anyio.to_thread.run_sync(self.page, table_id, offset, limiter=LIMITER):
            yield "".join(map(to_csv, page))
            offset += len(page)

    async def logged_pages(self, table_id: int) -> AsyncIterator[str]:
        offset = 0
        try:
            while page := await anyio.to_thread.run_sync(self.page, table_id, offset, limiter=LIMITER):
                for row in page:
                    yield json.dumps(row) + "\n"
                offset += len(page)
        except Exception:
            log.exception("export of %d failed", table_id)
            raise


Source = Annotated[RowSource, Depends()]


@router.get("/{table_id}.csv")  # trap: E7
def export_csv(table_id: int, source: Source):
    return StreamingResponse((to_csv(r) for r in source.rows(table_id)), media_type="text/csv")


@router.get("/{table_id}.ndjson")  # trap: E7
async def export_lines(table_id: int, source: Source):
    return StreamingResponse(source.lines(table_id), media_type="application/x-ndjson")


@router.get("/{table_id}/checked")  # trap: E7
async def export_checked(table_id: int, source: Source, tasks: BackgroundTasks):
    tasks.add_task(log.info, "export %d done", table_id)
    return StreamingResponse(source.checked(table_id), media_type="application/x-ndjson")


@router.get("/{table_id}/tolerant")  # trap: E7
async def export_tolerant(table_id: int, source: Source):
    async def body():
        offset = 0
        while True:
            try:
                page = await anyio.to_thread.run_sync(source.page, table_id, offset)
            except (sqlite3.Error, OSError):  # trap: D13
                break
            if not page:
                return
            offset += len(page)
            yield "".join(to_csv(r) for r in page)

    return StreamingResponse(body(), media_type="text/csv")


@router.get("/v2/{table_id}.csv", response_class=ClosingStream, responses=CSV_DOC)
async def export_csv_v2(table_id: int, source: Source):
    body = await primed(source.pages(table_id))
    return ClosingStream(body, media_type="text/csv", headers=SAFE_HEADERS)


@router.get("/v2/{table_id}.ndjson", response_class=ClosingStream, responses=NDJSON_DOC)
async def export_lines_v2(table_id: int, source: Source):
    body = await primed(source.logged_pages(table_id))
    return ClosingStream(body, media_type="application/x-ndjson", headers=SAFE_HEADERS)


@router.get("/v2/{table_id}/count")
def count_rows(table_id: int, source: Source, tasks: BackgroundTasks):
    tasks.add_task(log.info, "count of %d asked", table_id)
    return JSONResponse({"rows": sum(1 for _ in source.page(table_id, 0))})
