"""`GET, HEAD /files/{id}`, and the part that adds it and the archive."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from ..kernel.access import asks_for
from ..kernel.admission import Admission
from ..kernel.kernel import kernel_of
from ..kernel.part import Part
from ..kernel.problem import Problem
from ..storage.conditional import Verdict, combined, evaluate
from ..storage.part import Files
from ..storage.records import FileId
from ..storage.router import READ, seen_record, storage_of
from ..streams.content import ENCODED
from . import links
from .archive import router as archive
from .file_stream import FileStream, offload
from .headers import caching, description, repr_digest, sent_type
from .ranges import select, whole
from .settings import DownloadSettings

router = APIRouter(tags=["download"])
_admission = Admission("download", READ)

_NAMES = ["Accept-Ranges", "Cache-Control", "Content-Disposition", "ETag", "Last-Modified"]
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, with its stored media type.",
        "content": {"*/*": {}},
        "headers": {name: {"required": True, "schema": {"type": "string"}} for name in _NAMES},
    },
    206: {
        "description": "The ranges that `Range` selects; several as parts.",
        "content": {"*/*": {}, "multipart/byteranges": {}},
    },
    304: {"description": "The client has this file already."},
    404: {"description": "The file does not exist."},
    412: {"description": "A precondition failed."},
    416: {"description": "No range is within the file."},
}


_Inline = Annotated[bool, Query(description="Display or play the file, if its type is safe.")]
_Name = Annotated[str, Query(description="Save the file under this name instead of its own.")]


@router.get("/files/{file_id}", status_code=200, response_class=FileStream, responses=_RESPONSES)
@asks_for(READ)
async def download_file(
    file_id: FileId, request: Request, inline: _Inline = False, filename: _Name = ""
) -> Response:
    """Send a stored file, or the ranges of it that the client asks for (RFC 9110, section 14)."""
    # Called directly: as dependencies these two take a fifth of the time for a small file.
    await _admission(request)
    storage = await storage_of(request)
    record = await seen_record(request, storage, file_id)
    fields = combined(request.headers)
    is_private = bool(record.owner or kernel_of(request.scope).challenge)
    cached = caching(record, request.app.state.settings.download.max_age, is_private)
    verdict = evaluate(request.method, fields, record, datetime.now(UTC))
    if verdict is Verdict.PRECONDITION_FAILED:
        raise Problem(412)
    if verdict is Verdict.NOT_MODIFIED:
        return Response(status_code=304, headers=cached)
    content_type = await sent_type(storage, record, inline)
    selection = whole(record.size)
    if verdict is Verdict.SEND_RANGES:
        selection = select(fields["range"], record.size, content_type)
    digest = repr_digest(fields.get("want-repr-digest", ""), record)
    described = description(record, content_type, inline, filename)
    headers = cached | digest | described | selection.headers
    if request.method == "HEAD":
        return Response(headers=headers)
    if offloaded := await offload(request, storage, record, headers):
        return offloaded
    response = FileStream(storage, record, selection.pieces, selection.status, headers)
    if selection.status == 206 and "if-range" in fields:
        # The client has these headers from its first response (section 15.3.7).
        del response.headers["last-modified"]
        if len(selection.pieces) == 1:
            del response.headers["content-type"]
    return response


router.head("/files/{file_id}", include_in_schema=False)(download_file)
# After the route of files, because the framework tries them in order.
router.include_router(archive, dependencies=[Depends(_admission)])


class Downloads(Part):
    """`GET, HEAD /files/{id}` (RFC 9110) and `GET, HEAD, POST /archive` (ZIP); needs `Files`.

    With access control, also `POST /files/{id}/links`.
    Settings: `APP_DOWNLOAD__…`.
    """

    needs = (Files,)
    rank = 10
    sections: ClassVar[dict[str, Any]] = {"download": DownloadSettings}
    problem_types = (ENCODED,)

    def check(self, settings: Any) -> None:
        is_presigned = settings.download.offload == "presigned"
        if is_presigned and not settings.storage.url.startswith("s3:"):
            sys.exit("APP_DOWNLOAD__OFFLOAD: presigned needs files in S3, see APP_STORAGE__URL")

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)
        if app.state.kernel.challenge:
            app.include_router(links.router)
