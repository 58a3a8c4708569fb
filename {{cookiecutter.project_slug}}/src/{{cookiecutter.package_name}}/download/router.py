"""`GET, HEAD /files/{id}` and `GET /exports/{name}`."""

from email.utils import format_datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import Headers

from ..storage import FileRecord, StorageDep
from ..streaming import Admission, ByteStream, Problem, digest_field
from .conditional import Verdict, evaluate, last_modified, range_applies
from .disposition import INLINE, SAFETY, content_disposition
from .exports import router as exports
from .ranges import ByteRange, Unsatisfiable, parse_range

router = APIRouter(tags=["download"], dependencies=[Depends(Admission("download"))])
router.include_router(exports)

_RESPONSES: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part that `Range` selects."},
    304: {"description": "The client has it already."},
    404: {"description": "There is no such file."},
    412: {"description": "A precondition failed."},
    416: {"description": "The range lies outside the file."},
}


@router.get("/files/{file_id}", response_class=ByteStream, responses=_RESPONSES)
async def download_file(
    file_id: str, request: Request, storage: StorageDep, inline: bool = False
) -> Response:
    """Send a stored file, or the range of it that the client asks for (RFC 9110, section 14)."""
    record = await storage.record(file_id)
    verdict = evaluate(_combined(request.headers), record)
    if verdict is Verdict.PRECONDITION_FAILED:
        raise Problem(412)
    if verdict is Verdict.NOT_MODIFIED:
        return Response(status_code=304, headers=_validators(record))

    part = _selected_part(request, record)
    whole = ByteRange(0, record.size)
    headers = _headers(record, inline) | {"Content-Length": str(_length(part or whole))}
    if part is not None:
        headers["Content-Range"] = part.content_range(record.size)
    if request.method == "HEAD":
        return Response(headers=headers)
    selected = part or whole
    return ByteStream(
        storage.read(file_id, selected.start, selected.stop),
        status_code=206 if part else 200,
        headers=headers,
    )


router.head("/files/{file_id}", include_in_schema=False)(download_file)


def _combined(headers: Headers) -> dict[str, str]:
    """Return the fields of a request; several lines of one are one list (RFC 9110, 5.3)."""
    return {name: ", ".join(headers.getlist(name)) for name in headers}


def _selected_part(request: Request, record: FileRecord) -> ByteRange | None:
    # Range is defined for GET only (RFC 9110, section 14.2).
    if request.method != "GET" or not range_applies(request.headers, record):
        return None
    try:
        return parse_range(request.headers.get("range"), record.size)
    except Unsatisfiable:
        headers = _validators(record) | {"Content-Range": f"bytes */{record.size}"}
        raise Problem(416, headers=headers) from None


def _length(part: ByteRange) -> int:
    return part.stop - part.start


def _validators(record: FileRecord) -> dict[str, str]:
    return {
        "ETag": record.etag,
        "Last-Modified": format_datetime(last_modified(record), usegmt=True),
        "Cache-Control": "private, no-cache",
    }


def _headers(record: FileRecord, inline: bool) -> dict[str, str]:
    show = inline and INLINE.fullmatch(record.content_type) is not None
    headers = {
        **_validators(record),
        **SAFETY,
        "Accept-Ranges": "bytes",
        # As it was stored: the framework would add a charset that nobody said.
        "Content-Type": record.content_type,
        "Content-Disposition": content_disposition(record.filename, inline=show),
    }
    if record.digest:
        headers["Repr-Digest"] = digest_field(record.digest)
    return headers
