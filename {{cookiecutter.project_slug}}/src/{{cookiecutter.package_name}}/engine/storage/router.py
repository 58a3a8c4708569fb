"""The routes of every project that stores files, and the URLs of files."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from starlette.requests import HTTPConnection
from starlette.routing import NoMatchFound

from ..kernel.access import current_principal, owner_seen_by
from ..kernel.admission import Admission
from ..kernel.body import whole_request
from ..kernel.kernel import BOUNDS
from ..kernel.origins import base_of
from ..kernel.part import opened
from ..kernel.problem import Problem
from ..streams.rows import JsonLines, described
from .conditional import Verdict, combined, evaluate
from .interface import Storage
from .records import FileId, FileRecord, not_found
from .settings import StorageSettings

router = APIRouter(tags=["files"])
#: The scopes of files.
READ, DELETE = "files:read", "files:delete"

_LIMIT = "Files of one page; the settings of the service can lower it."


class StoredFile(FileRecord):
    """A FileRecord with its URL, as clients see it."""

    url: str


class ListedFile(StoredFile):
    """A line of the listing; the next page starts after `cursor`."""

    cursor: int


async def storage_of(request: Request) -> Storage:
    """Return the application's store; FastAPI would run a synchronous dependency in a thread."""
    storage: Storage = opened(request.app, "storage")
    return storage


StorageDep = Annotated[Storage, Depends(storage_of)]
"""The store of the service, as a parameter of a path operation."""


def sees(connection: HTTPConnection, owner: str | None) -> bool:
    """Whether the sender may see what belongs to this owner."""
    return owner_seen_by(connection) in (None, owner)


async def seen_record(request: Request, storage: Storage, file_id: str) -> FileRecord:
    """Return the record of a file that the sender may see; raises Problem 404.

    With access control, these are the files of the same owner, and for an admin all files.
    """
    record = await storage.record(file_id)
    if not sees(request, record.owner):
        raise not_found()
    return record


def file_url(request: Request, file_id: str) -> str:
    """Return the absolute URL of a file, or of its record if the service has no downloads.

    It begins with `APP_SERVER__PUBLIC_URL`, or by default with the origin of the request.
    """
    try:
        path = request.app.url_path_for("download_file", file_id=file_id)
    except NoMatchFound:
        path = request.app.url_path_for("file_record", file_id=file_id)
    return f"{base_of(request.scope)}{path}"


class _Page:
    """The files of one response; `next` is the cursor of the next page, if there is one."""

    def __init__(self, request: Request, storage: Storage, after: int, limit: int | None) -> None:
        self.next: int | None = None
        self._request, self._storage = request, storage
        self._after, self._limit = after, limit

    async def rows(self) -> AsyncGenerator[ListedFile]:
        settings: StorageSettings = self._request.app.state.settings.storage
        left = min(self._limit or settings.max_listed, settings.max_listed)
        cursor, size, is_wanted = self._after, settings.max_listed_bytes, left == self._limit
        # The route is looked up once for all files, as that takes the longest.
        start, _, end = file_url(self._request, "*").rpartition("*")
        # One record more than is sent shows whether there is another page.
        owner = owner_seen_by(self._request)
        async with aclosing(self._storage.records(cursor, left + 1, owner)) as records:
            async for following, record in records:
                if left == 0 or size <= 0:
                    self.next = cursor
                    if left:
                        BOUNDS["storage.max_listed_bytes"] += 1
                    elif not is_wanted:
                        BOUNDS["storage.max_listed"] += 1
                    return
                cursor, url = following, f"{start}{record.id}{end}"
                row = ListedFile(**record.model_dump(), url=url, cursor=cursor)
                left, size = left - 1, size - len(row.model_dump_json().encode())
                yield row


@router.get(
    "/files",
    response_class=Response,
    responses={200: {"content": described(ListedFile)}},
    dependencies=[Depends(Admission("listing", READ))],
)
async def list_files(
    request: Request,
    storage: StorageDep,
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="A cursor: start after it.")] = 0,
    limit: Annotated[int | None, Query(ge=1, lt=1 << 31, description=_LIMIT)] = None,
) -> JsonLines:
    """List your files as JSON Lines, in order of completion; without access control, all files.

    A response is one page. If there are more files, the `$end` of its last line has a `next`: pass
    it as `after` to get the next page.
    """
    page = _Page(request, storage, after, limit)
    # There is no validator, so that a stored page could not be used again.
    headers = {"Cache-Control": "no-store"}
    return JsonLines(page.rows(), following=lambda: page.next, headers=headers)


@router.get(
    "/files/{file_id}/record",
    responses={404: {}},
    dependencies=[Security(current_principal, scopes=[READ])],
)
async def file_record(
    file_id: FileId, request: Request, response: Response, storage: StorageDep
) -> StoredFile:
    """Return the record of a file."""
    record = await seen_record(request, storage, file_id)
    # It does not change, but the file can be deleted, and only some clients may see it.
    response.headers["Cache-Control"] = "private, no-cache"
    return StoredFile(**record.model_dump(), url=file_url(request, file_id))


@router.delete(
    "/files/{file_id}",
    status_code=204,
    response_class=Response,
    responses={404: {}, 412: {}},
    dependencies=[Security(current_principal, scopes=[DELETE]), Depends(whole_request)],
)
async def delete_file(file_id: FileId, request: Request, storage: StorageDep) -> None:
    """Delete a file; downloads in progress are not interrupted."""
    record = await seen_record(request, storage, file_id)
    verdict = evaluate("DELETE", combined(request.headers), record, datetime.now(UTC))
    if verdict is Verdict.PRECONDITION_FAILED:
        raise Problem(412)
    await storage.delete(file_id)
