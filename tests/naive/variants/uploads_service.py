"""Upload end points of the document service."""

import asyncio
import errno
import logging
import os
import uuid
from typing import Annotated

import aiofiles
from fastapi import APIRouter, Depends, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, PlainTextResponse

from app_settings import Settings, get_settings
from streaming_kit import SAFE_HEADERS, discard, limited_body, publish

log = logging.getLogger(__name__)
router = APIRouter(prefix="/documents")
Config = Annotated[Settings, Depends(get_settings)]


class UploadService:
    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.root = settings.files

    async def store(self, file: UploadFile) -> dict:
        target = os.path.join(self.root, file.filename)  # trap: U6
        body = await file.read()  # trap: U10
        with open(target, "wb") as out:  # trap: U1, U2, U3, U12
            out.write(body)  # trap: U12
        return {"name": file.filename, "size": len(body)}  # trap: U15

    async def store_quietly(self, file: UploadFile) -> dict:
        name = uuid.uuid4().hex
        try:
            async with aiofiles.open(self.root / name, "wb") as out:  # trap: U1, U2
                while chunk := await file.read(1 << 16):
                    await out.write(chunk)
        except Exception:  # trap: U5
            log.exception("could not store %s", name)
        return {"id": name, "status": "stored"}  # trap: U15

    async def store_safely(self, file: UploadFile) -> dict:
        upload_id, size = uuid.uuid4().hex, 0
        part = self.settings.parts / (upload_id + ".part")
        try:
            async with aiofiles.open(part, "xb") as out:
                while chunk := await file.read(65536):
                    size += len(chunk)
                    if size > self.settings.max_body:
                        raise HTTPException(413, "body too large", headers={"Connection": "close"})
                    await out.write(chunk)
            await asyncio.to_thread(publish, part, self.root / upload_id)
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise HTTPException(507, "no space left") from exc
            raise
        finally:
            await discard(part)
        return {"id": upload_id, "size": size}


Service = Annotated[UploadService, Depends()]


@router.post("/", status_code=201)
async def create_document(file: UploadFile, service: Service):
    return await service.store(file)


@router.post("/quiet", status_code=201)
async def create_quietly(file: UploadFile, service: Service):
    return await service.store_quietly(file)


@router.post("/safe", status_code=201)
async def create_safely(file: UploadFile, service: Service):
    return await service.store_safely(file)


@router.put("/raw/{doc_id}")
async def put_raw(doc_id: uuid.UUID, request: Request, settings: Config):
    path = settings.files / str(doc_id)
    total = 0
    try:
        async with aiofiles.open(path, mode="wb") as out:  # trap: U1, U2, U3
            async for chunk in request.stream():
                total += len(chunk)
                if total > settings.max_body:
                    raise HTTPException(status_code=413, detail="too large")
                await out.write(chunk)
    except OSError:
        return PlainTextResponse("disk error", status_code=500)  # trap: U4, E5
    return {"size": total}  # trap: U15


@router.put("/raw-safe")
async def put_raw_safely(request: Request, settings: Config):
    doc_id = uuid.uuid4().hex
    part = settings.parts / f"{doc_id}.part"
    try:
        async with aiofiles.open(part, mode="xb") as out:
            async for chunk in limited_body(request, settings.max_body, settings.idle, settings.min_rate):
                await out.write(chunk)
        await asyncio.to_thread(publish, part, settings.files / doc_id)
    except OSError as exc:
        raise HTTPException(507 if exc.errno == errno.ENOSPC else 500, "storage failed") from exc
    finally:
        await discard(part)
    return {"id": doc_id}


@router.get("/raw/{doc_id}", response_class=FileResponse)
async def get_raw(doc_id: uuid.UUID, settings: Config):
    return FileResponse(settings.files / str(doc_id))  # missed: U8


@router.api_route("/safe/{doc_id}", methods=["GET", "HEAD"], response_class=FileResponse)
def get_safely(doc_id: uuid.UUID, settings: Config):
    path = settings.files / doc_id.hex
    if not path.is_file():
        raise HTTPException(404, "no such document")
    return FileResponse(path, filename=doc_id.hex, headers=SAFE_HEADERS)
