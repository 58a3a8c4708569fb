"""`GET, HEAD /archive?id=…&id=…`: chosen files as one ZIP, made while it is sent.

The format is written here (`zip`), in a hundred lines instead of a library: the one that knows the
length beforehand (zipstream-ng) reads synchronous iterables, so a thread would have to wait for
every chunk of the asynchronous store.
"""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from ..kernel.fields import combined
from ..kernel.problem import Problem
from ..storage.conditional import Verdict, evaluate
from ..storage.interface import Storage
from ..storage.records import MAX_BYTES, FileId, FileRecord, clean_filename
from ..storage.router import StorageDep
from ..streams.pull import ByteStream
from .disposition import SAFETY, content_disposition
from .zip import Entry, archive, archive_size

#: As many as fit into `APP_SERVER__MAX_HEADER_SIZE`, 64 KiB.
MAX_FILES = 1000

router = APIRouter()


class ZipStream(ByteStream):
    """A ZIP archive."""

    media_type = "application/zip"


Ids = Annotated[
    list[FileId],
    Query(alias="id", max_length=MAX_FILES, description="In this order, each once."),
]

_RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has it already."},
    404: {"description": "One of the files is not there."},
    412: {"description": "A precondition failed."},
    431: {"description": "The ids do not fit into a header; without a body.", "content": {}},
}


@router.get("/archive", response_class=ZipStream, responses=_RESPONSES)
async def download_archive(ids: Ids, request: Request, storage: StorageDep) -> Response:
    """Send files as one ZIP archive: not compressed, of a length that is known beforehand.

    When one of them turns out to be unreadable half-way, the connection is aborted.
    """
    records = await _records(storage, list(dict.fromkeys(ids)))
    names = archive_names(record.filename for record in records)
    entries = [
        Entry(name, record.size, record.created_at)
        for name, record in zip(names, records, strict=True)
    ]
    whole = _record_of_archive(records, archive_size(entries))
    caching = {"ETag": whole.etag, "Cache-Control": "private, no-cache"}
    match evaluate(request.method, combined(request.headers), whole, datetime.now(UTC)):
        case Verdict.PRECONDITION_FAILED:
            raise Problem(412)
        case Verdict.NOT_MODIFIED:
            return Response(status_code=304, headers=caching)
    headers = {
        **caching,
        **SAFETY,
        "Accept-Ranges": "none",
        "Content-Disposition": content_disposition(whole.filename),
        "Content-Length": str(whole.size),
    }
    bodies = (storage.read(record.id, 0, record.size) for record in records)
    return ZipStream(archive(zip(entries, bodies, strict=True)), headers=headers)


router.head("/archive", include_in_schema=False)(download_archive)


def _record_of_archive(records: list[FileRecord], size: int) -> FileRecord:
    """Return what is known of the archive, which is as immutable as the files in it."""
    ids = "".join(record.id for record in records)
    created_at = max(record.created_at for record in records)
    file_id = sha256(ids.encode()).hexdigest()
    return FileRecord(id=file_id, filename="archive.zip", size=size, created_at=created_at)


async def _records(storage: Storage, file_ids: list[str]) -> list[FileRecord]:
    found = await storage.find(file_ids)
    for file_id in file_ids:
        if file_id not in found:
            raise Problem(404, f"There is no file with the id {file_id}.")
    return [found[file_id] for file_id in file_ids]


def archive_names(filenames: Iterable[str]) -> list[str]:
    """Return names that any system can unpack beside each other: the second `a` is `a (1)`.

    Two that differ in case alone are one file on Windows and macOS.
    """
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    names = []
    for filename in filenames:
        # Windows keeps these for itself: behind a colon is another stream of the same file.
        name = unique = re.sub(r'[<>:"|?*]', "_", clean_filename(filename))
        stem, suffix = _numbered_parts(name)
        key = f"{stem}{suffix}".casefold()
        while unique.casefold() in taken:
            numbers[key] += 1
            unique = f"{stem} ({numbers[key]}){suffix}"
        taken.add(unique.casefold())
        names.append(unique)
    return names


def _numbered_parts(name: str) -> tuple[str, str]:
    """Split a name where a number fits in; the parts and ` (1000)` are at most MAX_BYTES long."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 32 else ""
    room = MAX_BYTES - len(suffix.encode()) - len(f" ({MAX_FILES})")
    return name.removesuffix(suffix).encode()[:room].decode(errors="ignore"), suffix
