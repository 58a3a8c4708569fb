"""The routes of every project that stores files, and what the other modules need to name a file."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.routing import NoMatchFound

from ..streaming import Admission, JsonLines, Problem, combined, described, whole_request
from .conditional import Verdict, evaluate
from .interface import Storage
from .records import FileId, FileRecord

router = APIRouter(tags=["files"])


class StoredFile(FileRecord):
    """A FileRecord as clients see it."""

    url: str


class ListedFile(StoredFile):
    """A line of the listing; `cursor` continues behind it."""

    cursor: int


def storage_of(request: Request) -> Storage:
    """Return the application's store."""
    storage: Storage = request.app.state.storage
    return storage


async def _storage(request: Request) -> Storage:
    return storage_of(request)  # A synchronous dependency would be run in a thread.


StorageDep = Annotated[Storage, Depends(_storage)]


def file_url(request: Request, file_id: str) -> str:
    """Return the absolute address of a file: of its bytes, or of its record without download."""
    try:
        path = request.app.url_path_for("download_file", file_id=file_id)
    except NoMatchFound:
        path = request.app.url_path_for("file_record", file_id=file_id)
    base = request.app.state.settings.server.public_url or str(request.base_url)
    return str(base).rstrip("/") + str(path)


@router.get(
    "/files",
    response_class=Response,
    responses={200: {"content": described(ListedFile, "/files")}},
    dependencies=[Depends(Admission("listing"))],
)
async def list_files(
    request: Request,
    storage: StorageDep,
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="A cursor: begin behind it.")] = 0,
    limit: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None,
) -> JsonLines:
    """List the stored files as JSON Lines, in the order in which they were completed."""

    async def rows() -> AsyncGenerator[ListedFile]:
        async with aclosing(storage.records(after, limit)) as records:
            async for cursor, record in records:
                url = file_url(request, record.id)
                yield ListedFile(**record.model_dump(), url=url, cursor=cursor)

    return JsonLines(rows())


@router.get("/files/{file_id}/record", responses={404: {}})
async def file_record(file_id: FileId, request: Request, storage: StorageDep) -> StoredFile:
    """Return what is known of a file."""
    record = await storage.record(file_id)
    return StoredFile(**record.model_dump(), url=file_url(request, file_id))


@router.delete(
    "/files/{file_id}",
    status_code=204,
    response_class=Response,
    responses={404: {}, 412: {}},
    dependencies=[Depends(whole_request)],
)
async def delete_file(file_id: FileId, request: Request, storage: StorageDep) -> None:
    """Remove a file; who is downloading it gets the rest of it."""
    record = await storage.record(file_id)
    verdict = evaluate("DELETE", combined(request.headers), record, datetime.now(UTC))
    if verdict is Verdict.PRECONDITION_FAILED:
        raise Problem(412)
    await storage.delete(file_id)
