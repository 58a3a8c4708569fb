"""The routes of every project that stores files, and what the other modules need to name a file."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.routing import NoMatchFound

from ..kernel.admission import Admission
from ..kernel.body import whole_request
from ..kernel.fields import combined
from ..kernel.measures import BOUNDS
from ..kernel.origins import base_of
from ..kernel.part import opened
from ..kernel.problem import Problem
from ..streams.rows import JsonLines, described
from .conditional import Verdict, evaluate
from .interface import Storage
from .records import FileId, FileRecord
from .settings import StorageSettings

router = APIRouter(tags=["files"])

_LIMIT = "Files of one page; the service sends fewer when that is more than it lists at once."


class StoredFile(FileRecord):
    """A FileRecord as clients see it."""

    url: str


class ListedFile(StoredFile):
    """A line of the listing; `cursor` continues behind it."""

    cursor: int


def storage_of(request: Request) -> Storage:
    """Return the application's store."""
    storage: Storage = opened(request.app, "storage")
    return storage


async def _storage(request: Request) -> Storage:
    return storage_of(request)  # A synchronous dependency would be run in a thread.


StorageDep = Annotated[Storage, Depends(_storage)]
"""The store of the service, as a parameter of a path operation."""


def file_url(request: Request, file_id: str) -> str:
    """Return the absolute URL of a file: of its bytes, or of its record without download.

    It begins with `APP_SERVER__PUBLIC_URL`, or else as the URL of the request does.
    """
    return _file_urls(request)(file_id)


def _file_urls(request: Request) -> Callable[[str], str]:
    """Return `file_url` of many files: the route is looked up once, as that takes the longest."""
    try:
        path = request.app.url_path_for("download_file", file_id="*")
    except NoMatchFound:
        path = request.app.url_path_for("file_record", file_id="*")
    before, _, after = f"{base_of(request.scope)}{path}".rpartition("*")
    return lambda file_id: f"{before}{file_id}{after}"


class _Page:
    """As many records as one response may have; `next` is the cursor that the others are behind."""

    def __init__(self, request: Request, after: int, limit: int | None) -> None:
        settings: StorageSettings = request.app.state.settings.storage
        self.next: int | None = None
        self._request = request
        self._after = after
        self._limit = min(limit or settings.max_listed, settings.max_listed)
        self._is_wanted = limit == self._limit
        self._size = settings.max_listed_bytes

    async def rows(self) -> AsyncGenerator[ListedFile]:
        cursor, left, size = self._after, self._limit, self._size
        url_of = _file_urls(self._request)
        # One more than is sent: only that shows whether there is more.
        async with aclosing(storage_of(self._request).records(cursor, left + 1)) as records:
            async for following, record in records:
                if left == 0 or size <= 0:
                    self.next = cursor
                    self._report("max_listed_bytes" if left else "max_listed")
                    return
                cursor, url = following, url_of(record.id)
                row = ListedFile(**record.model_dump(), url=url, cursor=cursor)
                left, size = left - 1, size - len(row.model_dump_json().encode())
                yield row

    def _report(self, setting: str) -> None:
        if setting != "max_listed" or not self._is_wanted:
            BOUNDS[f"storage.{setting}"] += 1


@router.get(
    "/files",
    response_class=Response,
    responses={200: {"content": described(ListedFile)}},
    dependencies=[Depends(Admission("listing"))],
)
async def list_files(
    request: Request,
    after: Annotated[int, Query(ge=0, lt=1 << 63, description="A cursor: begin behind it.")] = 0,
    limit: Annotated[int | None, Query(ge=1, lt=1 << 31, description=_LIMIT)] = None,
) -> JsonLines:
    """List the stored files as JSON Lines, in the order in which they were completed.

    One response is a page. When there are more files, the `$end` of its last line has a `next`:
    ask again with that as `after`.
    """
    page = _Page(request, after, limit)
    return JsonLines(page.rows(), following=lambda: page.next)


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
