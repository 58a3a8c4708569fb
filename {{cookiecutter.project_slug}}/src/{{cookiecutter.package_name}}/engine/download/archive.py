"""`GET, HEAD /archive?id=…&id=…` and `POST /archive`: files as one ZIP archive.

It is created while it is sent. Its length is known before the first byte, and a GET of it can be
resumed. Range requests are not defined for POST (RFC 9110, section 14.2).

Sources: RFC 9110, sections 13 and 14; the URL Standard, section 5 (forms).
"""

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import FailFast, Field, TypeAdapter, ValidationError

from ..kernel.body import TOO_LARGE, RequestBody
from ..kernel.problem import Problem
from ..storage.conditional import Verdict, combined, evaluate
from ..storage.interface import Storage
from ..storage.records import MAX_BYTES, FileId, clean_filename, split_name
from ..storage.router import StorageDep, sees
from ..streams.content import require_text
from ..streams.pull import ByteStream
from .headers import SAFETY, content_disposition
from .ranges import Selection, select, whole
from .zip_stream import Archive

#: The number of ids that fit into the default `APP_SERVER__MAX_HEADER_SIZE`, 64 KiB.
MAX_FILES = 1000
#: Bytes of a body for each of its ids, which have 36 characters.
ID_BYTES = 64
#: Files that are looked up, and then named, in one turn of the event loop.
LOOKED_UP = 200
#: Bytes of the longest number that distinguishes two names.
_NUMBER_BYTES = len(" (65535)")

JSON, FORM = "application/json", "application/x-www-form-urlencoded"

router = APIRouter()


class ZipStream(ByteStream):
    """A ZIP archive, or ranges of it."""

    media_type = "application/zip"


Ids = Annotated[
    list[FileId],
    Query(alias="id", max_length=MAX_FILES, description="In this order; duplicates are ignored."),
]
_IDS: TypeAdapter[list[str]] = TypeAdapter(Annotated[list[FileId], Field(min_length=1), FailFast()])

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"description": "One of the files does not exist."}
}
_RESPONSES = _NOT_FOUND | {
    206: {
        "description": "The ranges that `Range` selects; several as parts.",
        "content": {"application/zip": {}, "multipart/byteranges": {}},
    },
    304: {"description": "The client has this archive already."},
    412: {"description": "A precondition failed."},
    416: {"description": "No range is within the archive."},
    431: {"description": "The ids do not fit into a header; without a body.", "content": {}},
}
_LIST = {"type": "array", "items": {"type": "string", "format": "uuid"}, "minItems": 1}
_FORM = {"type": "object", "properties": {"id": _LIST}, "required": ["id"]}
_BODY = {
    "required": True,
    "description": "Ids of files, in this order; duplicates are ignored.",
    "content": {JSON: {"schema": _LIST}, FORM: {"schema": _FORM}},
}


@router.get("/archive", response_class=ZipStream, responses=_RESPONSES)
async def download_archive(ids: Ids, request: Request, storage: StorageDep) -> Response:
    """Send files as one ZIP archive, uncompressed and with `Content-Length`.

    If a file turns out to be unreadable while the archive is sent, the connection is aborted.
    """
    archive = await _archive_of(ids, request, storage)
    record, fields = archive.record(), combined(request.headers)
    # The archive is as immutable as its files.
    headers = {"ETag": record.etag, "Cache-Control": "private, no-cache"}
    selection = whole(record.size)
    match evaluate(request.method, fields, record, datetime.now(UTC)):
        case Verdict.PRECONDITION_FAILED:
            raise Problem(412)
        case Verdict.NOT_MODIFIED:
            return Response(status_code=304, headers=headers)
        # A date in If-Range would not distinguish two layouts of the same files.
        case Verdict.SEND_RANGES if archive.is_final and (
            fields.get("if-range", record.etag) == record.etag
        ):
            selection = select(fields["range"], record.size, ZipStream.media_type)
    headers["Accept-Ranges"] = "bytes" if archive.is_final else "none"
    return _sent(archive, selection, headers)


router.head("/archive", include_in_schema=False)(download_archive)


@router.post(
    "/archive",
    response_class=ZipStream,
    responses=_NOT_FOUND | {413: {}, 415: {}, 422: {}},
    openapi_extra={"requestBody": _BODY},
)
async def post_archive(request: Request, storage: StorageDep) -> Response:
    """Send more files as one ZIP archive than a URL can name; it cannot be resumed.

    The body is a JSON list of ids, or an HTML form with fields `id`.
    """
    archive = await _archive_of(await _ids_of(request), request, storage)
    selection = whole(archive.record().size)
    return _sent(archive, selection, {"Accept-Ranges": "none", "Cache-Control": "no-store"})


async def _ids_of(request: Request) -> list[str]:
    """Return the ids in a body; raises Problem 413 or 415, and RequestValidationError (422)."""
    media_type = require_text(request, JSON, FORM).media_type
    most: int = request.app.state.settings.download.max_archived
    too_many = Problem(413, f"An archive may have at most {most} files.", type=TOO_LARGE)
    body = await RequestBody(request, limit=ID_BYTES * (most + 1)).read()
    try:
        if media_type == JSON:
            ids = _IDS.validate_json(body, strict=True)
        elif body.count(b"&") >= most:
            raise too_many
        else:
            fields = parse_qsl(body.decode(errors="replace"))
            ids = _IDS.validate_python([value for name, value in fields if name == "id"])
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        found = [{**each, "loc": ("body", *each["loc"])} for each in errors]
        raise RequestValidationError(found) from None
    if len(ids) > most:
        raise too_many
    return ids


async def _archive_of(ids: list[str], request: Request, storage: Storage) -> Archive:
    """Return the archive of these files; raises Problem 404 for one that the sender cannot see."""
    unique, names, archive = list(dict.fromkeys(ids)), Names(), Archive(storage)
    for start in range(0, len(unique), LOOKED_UP):
        turn = unique[start : start + LOOKED_UP]
        found = await storage.find(turn)
        for file_id in turn:
            if file_id not in found or not sees(request, found[file_id].owner):
                raise Problem(404, f"There is no file with the id {file_id[:100]}.")
            archive.add(found[file_id], names.unique(found[file_id].filename))
    return archive


def _sent(archive: Archive, selection: Selection, headers: dict[str, str]) -> Response:
    disposition = content_disposition("archive.zip")
    fields = {**headers, **SAFETY, "Content-Disposition": disposition, **selection.headers}
    return ZipStream(archive.stream(selection.pieces), selection.status, fields)


class Names:
    """Unique names that every system can unpack: the second `a` becomes `a (1)`.

    Names that differ only in case are not unique: on Windows and macOS they are one file.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: Counter[str] = Counter()

    def unique(self, filename: str) -> str:
        # Windows reserves these characters; a colon would name another stream of the same file.
        name = unique = re.sub(r'[<>:"|?*]', "_", clean_filename(filename))
        if unique.casefold() in self._taken:
            stem, suffix = split_name(name, MAX_BYTES - _NUMBER_BYTES)
            key = f"{stem}{suffix}".casefold()
            while unique.casefold() in self._taken:
                self._numbers[key] += 1
                unique = f"{stem} ({self._numbers[key]}){suffix}"
        self._taken.add(unique.casefold())
        return unique
