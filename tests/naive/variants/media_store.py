"""Images and clips; the store is a class with a sync and an async face."""

import asyncio as aio
import os
import shutil
from pathlib import Path
from time import sleep as pause
from typing import Annotated
from uuid import UUID, uuid4

import anyio.to_thread
from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi import responses as r

import storage_helpers as helpers
from app_settings import get_settings
from streaming_kit import SAFE_HEADERS, discard, limited_body, publish

router = APIRouter()


class MediaStore:
    types: dict[str, str] = {}

    def __init__(self) -> None:
        settings = get_settings()
        self.base: Path = settings.media
        self.parts: Path = settings.parts
        self.limit: int = settings.max_body
        self.lock = aio.Lock()

    async def add(self, upload: UploadFile) -> str:
        key = uuid4().hex
        self.types[key] = upload.content_type or "text/html"
        with (self.base / key).open("wb") as sink:  # trap: U1, U2, U12
            shutil.copyfileobj(upload.file, sink)  # trap: U12
        return key  # trap: U15

    async def replace(self, key: str, upload: UploadFile) -> None:
        temporary = self.parts / key
        temporary.write_bytes(await upload.read())  # trap: U10, U12
        while self.lock.locked():
            pause(0.05)  # trap: U12
        os.replace(temporary, self.base / key)  # trap: U12, U15

    def add_in_thread(self, upload: UploadFile) -> str:
        key = uuid4().hex
        helpers.spool_and_publish(upload.file, self.parts, self.base / key, self.limit)
        return key

    async def add_safely(self, upload: UploadFile) -> str:
        return await anyio.to_thread.run_sync(self.add_in_thread, upload)


Store = Annotated[MediaStore, Depends(MediaStore)]


@router.post("/media")
async def add_media(item: Annotated[UploadFile, File()], store: Store):
    return {"key": await store.add(item)}


@router.post("/media/safe", status_code=201)
async def add_media_safely(item: Annotated[UploadFile, File()], store: Store):
    return {"key": await store.add_safely(item)}


@router.post("/media/named")
async def add_named(folder: Annotated[str, Form()], item: Annotated[UploadFile, File()], store: Store):
    target = store.base.joinpath(folder, item.filename)  # trap: U6
    target.parent.mkdir(parents=True, exist_ok=True)  # trap: U6, U12
    async with aio.timeout(60):
        data = await item.read()  # trap: U10
    await aio.to_thread(target.write_bytes, data)  # trap: U1, U2, U3, U15
    return {"saved": str(item.filename)}


@router.put("/media/{key}/stream")
async def stream_media(key: UUID, request: Request, store: Store):
    size = await helpers.save_stream(store.base / key.hex, request.stream())
    return {"size": size}


@router.put("/media/{key}/blob")
async def put_blob(key: UUID, request: Request, store: Store):
    blob = await request.body()  # trap: U10
    await aio.to_thread((store.base / key.hex).write_bytes, blob)  # trap: U1, U2, U3, U15
    return r.Response(status_code=204)


@router.put("/media/blob-safe")
async def put_blob_safely(request: Request, store: Store):
    key, settings = uuid4().hex, get_settings()
    pieces = [c async for c in limited_body(request, 65536, settings.idle, settings.min_rate)]
    part = store.parts / f"{key}.part"
    try:
        await aio.to_thread(part.write_bytes, b"".join(pieces))
        await aio.to_thread(publish, part, store.base / key)
    finally:
        await discard(part)
    return {"key": key}


@router.get("/media/{key}")  # trap: E7
def show(key: UUID, store: Store):
    path = store.base / key.hex
    if not path.exists():
        raise HTTPException(404)
    return r.FileResponse(path, media_type=store.types.get(key.hex))  # missed: U8


@router.api_route("/media/{key}/safe", methods=["GET", "HEAD"], response_class=r.FileResponse)
def show_safely(key: UUID, store: Store):
    pause(0.01)
    path = store.base / key.hex
    if not path.is_file():
        raise HTTPException(404, "no such item")
    return r.FileResponse(path, filename=f"{key.hex}.bin", media_type="application/octet-stream", headers=SAFE_HEADERS)
