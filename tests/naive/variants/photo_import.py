"""Import of photos from other systems: object store, web, command line tools, catalogue."""

import asyncio
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from subprocess import check_output as capture
from typing import Annotated
from uuid import UUID, uuid4

import anyio
import boto3
import httpx
import requests
from fastapi import APIRouter, Depends, HTTPException, UploadFile
from fastapi.concurrency import run_in_threadpool

from app_settings import Settings, get_settings

router = APIRouter(prefix="/photos")
s3 = boto3.client("s3")
Config = Annotated[Settings, Depends(get_settings)]


def remember(db: Path, key: str) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("insert into photo(key) values (?)", (key,))


def fetch_original(url: str) -> bytes:
    return requests.get(url, timeout=10).content


@router.post("/import/{photo_id}")
async def import_photo(photo_id: UUID, settings: Config):
    answer = requests.get("%s/photo/%s" % (settings.upstream, photo_id), timeout=30)  # trap: U12
    s3.put_object(Bucket=settings.bucket, Key=str(photo_id), Body=answer.content)  # trap: U12
    with sqlite3.connect(settings.catalog) as connection:  # trap: U12
        connection.execute("insert into photo(key) values (?)", (str(photo_id),))  # trap: U12
    return {"id": photo_id}


@router.post("/import-safe/{photo_id}")
async def import_safely(photo_id: UUID, settings: Config):
    async with httpx.AsyncClient(base_url=settings.upstream, timeout=30) as client:
        answer = await client.get(f"/photo/{photo_id}")
    put = partial(s3.put_object, Bucket=settings.bucket, Key=str(photo_id), Body=answer.content)
    await asyncio.to_thread(put)
    await run_in_threadpool(remember, settings.catalog, str(photo_id))
    return {"id": photo_id}


@router.post("/import-plain/{photo_id}")
def import_in_worker(photo_id: UUID, settings: Config):
    body = requests.get(f"{settings.upstream}/photo/{photo_id}", timeout=30).content
    s3.put_object(Bucket=settings.bucket, Key=str(photo_id), Body=body)
    remember(settings.catalog, str(photo_id))
    return {"id": photo_id}


@router.post("/thumbnail")
async def thumbnail(photo: UploadFile):
    folder = Path(tempfile.mkdtemp())  # missed: U16
    source = folder / photo.filename  # trap: U6
    source.write_bytes(await photo.read())  # trap: U10, U12
    subprocess.run(["convert", source, "-resize", "200x200", folder / "small.png"], check=True)  # trap: U12
    info = capture(["identify", str(folder / "small.png")])  # trap: U12
    return {"info": info.decode()}


@router.post("/thumbnail-safe")
async def thumbnail_safely(photo: UploadFile, settings: Config):
    if (photo.size or 0) > settings.max_body:
        raise HTTPException(413, "too large", headers={"Connection": "close"})
    async with anyio.TemporaryDirectory() as folder:
        source, small = Path(folder) / "source", Path(folder) / "small.png"
        async with await anyio.open_file(source, "wb") as sink:
            while block := await photo.read(65536):
                await sink.write(block)
        process = await asyncio.create_subprocess_exec("convert", str(source), "-resize", "200x200", str(small))
        async with asyncio.timeout(30):
            code = await process.wait()
    return {"ok": code == 0}


@router.post("/mirror")
async def mirror(photo: UploadFile, settings: Config):
    def send() -> None:
        s3.upload_fileobj(photo.file, settings.bucket, uuid4().hex)

    send()  # trap: U12
    return {"ok": True}


@router.post("/mirror-safe")
async def mirror_safely(photo: UploadFile, settings: Config):
    def send() -> None:
        s3.upload_fileobj(photo.file, settings.bucket, uuid4().hex)

    await anyio.to_thread.run_sync(send)
    return {"ok": True}


@router.get("/peek/{photo_id}")
async def peek(photo_id: UUID, settings: Config):
    size = len(fetch_original(settings.upstream + "/photo/" + str(photo_id)))  # trap: U12
    return {"size": size}


@router.get("/peek-safe/{photo_id}")
async def peek_safely(photo_id: UUID, settings: Config):
    data = await asyncio.to_thread(fetch_original, settings.upstream + "/photo/" + str(photo_id))
    return {"size": len(data)}
