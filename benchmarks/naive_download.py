"""Downloads as in tutorials. For measurements only: it serves any path.

FILES=directory python -m uvicorn naive_download:app
"""

import os
from collections.abc import AsyncIterable, Iterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from our_service import ROW, Row

FILES = Path(os.environ["FILES"])

app = FastAPI()


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "live"}


@app.get("/response/{path:path}")
async def respond(path: str) -> FileResponse:
    return FileResponse(FILES / path)


@app.get("/stream-64k/{path:path}")
async def stream_64k(path: str) -> StreamingResponse:
    return StreamingResponse(chunks(FILES / path, 64 << 10))


@app.get("/stream-1k/{path:path}")
async def stream_1k(path: str) -> StreamingResponse:
    return StreamingResponse(chunks(FILES / path, 1 << 10))


def chunks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


@app.get("/rows")
async def rows(count: int) -> AsyncIterable[Row]:
    for _ in range(count):
        yield ROW
