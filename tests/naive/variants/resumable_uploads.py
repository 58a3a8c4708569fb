"""Uploads in several PATCH requests, in the manner of tus."""

import asyncio
import base64
import hashlib
import os
import time
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID, uuid4

import aiofiles
import anyio
from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response

from app_settings import Settings, get_settings
from streaming_kit import limited_body, publish

router = APIRouter(prefix="/resumable")
Config = Annotated[Settings, Depends(get_settings)]
sessions: dict[str, dict] = {}
locks: dict[str, asyncio.Lock] = {}
EXPIRY = 24 * 3600


@router.post("/")
async def begin(settings: Config, upload_length: Annotated[int, Header()]):
    token = uuid4().hex
    sessions[token] = {"length": upload_length, "offset": 0}  # missed: U16
    async with aiofiles.open(settings.parts / token, "xb"):  # missed: U16
        pass
    return {"id": token}


@router.patch("/{token}")
async def append(token: UUID, request: Request, settings: Config, upload_checksum: Annotated[str, Header()] = ""):
    state = sessions[token.hex]
    digest = hashlib.sha1()
    async with aiofiles.open(settings.parts / token.hex, "ab") as part:
        async for piece in request.stream():
            digest.update(piece)
            await part.write(piece)
            state["offset"] += len(piece)
    state["checksum"] = upload_checksum
    return Response(status_code=204, headers={"Upload-Offset": str(state["offset"])})  # missed: U15


@router.post("/{token}/finish")
async def finish(token: UUID, request: Request, settings: Config):
    claimed = request.headers.get("Content-Digest")
    final = settings.files / token.hex
    os.rename(settings.parts / token.hex, final)  # trap: U12; missed: U15
    return {"id": token.hex, "digest": claimed}


@asynccontextmanager
async def claimed_upload(token: str):
    """One writer for one upload; a second one gets 423."""
    lock = locks.setdefault(token, asyncio.Lock())
    if lock.locked():
        raise HTTPException(423, "upload is in use")
    async with lock:
        yield sessions[token]


@router.post("/v2/")
async def begin_v2(settings: Config, upload_length: Annotated[int, Header(ge=0)]):
    if upload_length > settings.max_body:
        raise HTTPException(413, "too large", headers={"Connection": "close"})
    token, expires = uuid4().hex, time.time() + EXPIRY
    await asyncio.to_thread((settings.parts / token).touch)
    sessions[token] = {"length": upload_length, "offset": 0, "expires": expires}
    return Response(status_code=201, headers={"Location": f"/resumable/v2/{token}"})


@router.patch("/v2/{token}")
async def append_v2(token: UUID, request: Request, settings: Config, upload_checksum: Annotated[str, Header()]):
    digest = hashlib.sha1()
    async with claimed_upload(token.hex) as state:
        part, offset = settings.parts / token.hex, state["offset"]
        room = state["length"] - offset
        async with aiofiles.open(part, "r+b") as handle:
            await handle.seek(offset)
            async for piece in limited_body(request, room, settings.idle, settings.min_rate):
                digest.update(piece)
                await handle.write(piece)
            await handle.flush()
            await asyncio.to_thread(os.fsync, handle.fileno())
        expected = "sha1 " + base64.b64encode(digest.digest()).decode()
        if upload_checksum != expected:
            await asyncio.to_thread(os.truncate, part, offset)
            raise HTTPException(460, "checksum mismatch")
        state["offset"] = await asyncio.to_thread(os.path.getsize, part)
        if state["offset"] == state["length"]:
            await asyncio.to_thread(publish, part, settings.files / token.hex)
    return Response(status_code=204, headers={"Upload-Offset": str(state["offset"])})


async def sweep(settings: Settings) -> None:
    while True:
        await anyio.sleep(60)
        now = time.time()
        for token in [t for t, s in sessions.items() if s.get("expires", now) < now]:
            sessions.pop(token, None)
            locks.pop(token, None)
            await anyio.Path(settings.parts / token).unlink(missing_ok=True)
