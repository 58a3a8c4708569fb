"""Uploads as in tutorials, and with one library. For measurements only.

FILES=directory python -m uvicorn naive_upload:app
"""

import os
import shutil
import uuid
from pathlib import Path

import aiofiles
from fastapi import FastAPI, Request, UploadFile
from tuspyserver import create_tus_router

FILES = Path(os.environ["FILES"])

app = FastAPI()
app.include_router(create_tus_router(prefix="tus", files_dir=str(FILES / "tus")))


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "live"}


@app.post("/discard", status_code=201)
async def discard(request: Request) -> dict[str, int]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"size": size}


@app.post("/chunks", status_code=201)
async def write_every_chunk(request: Request) -> dict[str, int]:
    size = 0
    async with aiofiles.open(FILES / uuid.uuid4().hex, "wb") as file:
        async for chunk in request.stream():
            await file.write(chunk)
            size += len(chunk)
    return {"size": size}


@app.post("/form", status_code=201)
def copy_form(file: UploadFile) -> dict[str, str | None]:
    with (FILES / uuid.uuid4().hex).open("wb") as target:
        shutil.copyfileobj(file.file, target)
    return {"filename": file.filename}
