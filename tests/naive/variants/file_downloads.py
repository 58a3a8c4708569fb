"""Downloads of stored files in several generations of code."""

import mimetypes
import os
from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import UUID

import aiofiles
import anyio.to_thread
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi import Path as PathParam
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from app_settings import Settings, get_settings
from streaming_kit import BINARY_DOC, SAFE_HEADERS, ClosingStream, content_disposition

router = APIRouter(prefix="/download")
Config = Annotated[Settings, Depends(get_settings)]
ObjectId = Annotated[str, PathParam(pattern="^[0-9a-f]{32}$")]
DISPOSITION = "Content - Disposition"  # trap: D3
CD = "Content-Disposition"
TERMS = Path(__file__).with_name("terms.pdf")
names: dict[str, str] = {}


def chunks_of(path):
    """Plain generator used by the old end points."""
    handle = open(path, "rb")
    for block in iter(partial(handle.read, 65536), b""):
        yield block


async def async_chunks_of(path):
    handle = await aiofiles.open(path, "rb")
    try:
        while block := await handle.read(65536):
            yield block
    finally:
        await handle.close()


async def no_pause(path):
    with open(path, "rb") as handle:  # trap: U12
        while block := handle.read(65536):  # trap: U12
            yield block


@router.get("/tree/{name:path}")  # trap: E7
def from_tree(name: str, settings: Config):
    target = os.path.join(settings.files, name)  # trap: D1
    return FileResponse(target)


@router.get("/old/{object_id}")  # trap: E7
def old_download(object_id: ObjectId, settings: Config):
    path = str(settings.files) + "/" + object_id
    headers = {DISPOSITION: "attachment"}  # missed: D3
    return StreamingResponse(chunks_of(path), headers=headers)  # trap: D5


@router.get("/named/{object_id}")  # trap: E7
async def named_download(object_id: ObjectId, settings: Config):
    name = names.get(object_id, "file")
    headers = {CD: f'attachment; filename="{name}"'}  # trap: D4
    body = async_chunks_of(settings.files / object_id)
    return StreamingResponse(body, headers=headers, media_type=mimetypes.guess_type(name)[0])  # trap: D5


@router.get("/as")  # trap: E7
async def download_as(object_id: Annotated[str, Query()], name: str, settings: Config):
    response = StreamingResponse(no_pause(settings.files / object_id))  # trap: D5; missed: D1
    response.headers["content-disposition"] = "attachment; filename=%s" % name  # trap: D4
    return response


@router.get("/view/{object_id}", response_class=FileResponse)
def view(object_id: ObjectId, settings: Config):
    path = settings.files / object_id
    if not path.is_file():
        raise HTTPException(404, "no such file")
    kind = mimetypes.guess_type(names.get(object_id, ""))[0] or "text/html"
    return FileResponse(path, media_type=kind, content_disposition_type="inline")


@router.get("/temp/{object_id}")  # trap: E7
def with_cleanup(object_id: ObjectId, settings: Config):
    path = settings.reports / object_id
    if not path.is_file():
        raise HTTPException(404, "no such report")
    cleanup = BackgroundTask(path.unlink, missing_ok=True)
    return StreamingResponse(chunks_of(path), background=cleanup)  # trap: D5


def resolve_below(root: Path, name: str) -> Path:
    if "\0" in name:
        raise HTTPException(404, "no such file")
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise HTTPException(404, "no such file")
    return path


@router.api_route("/v2/tree/{name:path}", methods=["GET", "HEAD"], response_class=FileResponse)
def from_tree_safely(name: str, settings: Config):
    path = resolve_below(settings.files, name)
    return FileResponse(path, filename=path.name, headers=SAFE_HEADERS)


@router.api_route("/v2/{object_id}", methods=["GET", "HEAD"], response_class=FileResponse)
async def download_safely(object_id: UUID, settings: Config):
    path = settings.files / object_id.hex
    if not await anyio.to_thread.run_sync(path.is_file):
        raise HTTPException(404, "no such file")
    return FileResponse(path, filename=names.get(object_id.hex, "file"), headers=SAFE_HEADERS)


@router.api_route("/terms", methods=["GET", "HEAD"], response_class=FileResponse)
def terms():
    return FileResponse(TERMS, media_type="application/pdf", filename="terms.pdf", headers=SAFE_HEADERS)


@router.get("/invoice/{number}", response_class=Response)
def invoice(number: int):
    """The number is an int, so the header value is safe."""
    headers = {"Content-Disposition": f'attachment; filename="invoice-{number}.txt"', **SAFE_HEADERS}
    return Response(f"Invoice {number}\n", media_type="text/plain", headers=headers)


@router.get("/v2/packed/{object_id}", response_class=ClosingStream, responses=BINARY_DOC)
async def packed(object_id: UUID, settings: Config):
    path = settings.files / object_id.hex
    if not await anyio.to_thread.run_sync(path.is_file):
        raise HTTPException(404, "no such file")

    async def xored():
        async with aiofiles.open(path, "rb") as handle:
            while block := await handle.read(65536):
                yield bytes(b ^ 0x55 for b in block)

    headers = SAFE_HEADERS | {"Content-Disposition": content_disposition(names.get(object_id.hex, "file"))}
    return ClosingStream(xored(), media_type="application/octet-stream", headers=headers)
