"""`GET, HEAD /files/{id}`, and the archive of several."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from ..kernel.admission import Admission
from ..kernel.fields import combined
from ..kernel.part import Part
from ..kernel.problem import Problem
from ..storage.conditional import Verdict, evaluate, last_modified
from ..storage.part import Files
from ..storage.records import FileId, FileRecord
from ..storage.router import storage_of
from ..streams.content import ENCODED
from .archive import router as archive
from .disposition import INLINE, SAFETY, content_disposition, repr_digest
from .ranges import select, whole
from .sending import FileStream, offload
from .settings import DownloadSettings

router = APIRouter(tags=["download"])
_admission = Admission("download")

_NAMES = ["Accept-Ranges", "Cache-Control", "Content-Disposition", "ETag", "Last-Modified"]
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, as what it was stored as.",
        "content": {"*/*": {}},
        "headers": {name: {"required": True, "schema": {"type": "string"}} for name in _NAMES},
    },
    206: {
        "description": "The ranges that `Range` selects; of several, each is a part.",
        "content": {"*/*": {}, "multipart/byteranges": {}},
    },
    304: {"description": "The client has it already."},
    404: {"description": "There is no such file."},
    412: {"description": "A precondition failed."},
    416: {"description": "No range has a byte of the file."},
}


@router.get("/files/{file_id}", status_code=200, response_class=FileStream, responses=_RESPONSES)
async def download_file(file_id: FileId, request: Request, inline: bool = False) -> Response:
    """Send a stored file, or the ranges of it that the client asks for (RFC 9110, section 14)."""
    # As dependencies, these two would be a fifth of the work that a small file makes.
    await _admission(request)
    storage = storage_of(request)
    record = await storage.record(file_id)
    fields = combined(request.headers)
    caching = _caching(record, request.app.state.settings.download)
    selection = whole(record.size)
    match evaluate(request.method, fields, record, datetime.now(UTC)):
        case Verdict.PRECONDITION_FAILED:
            raise Problem(412)
        case Verdict.NOT_MODIFIED:
            return Response(status_code=304, headers=caching)
        case Verdict.SEND_RANGES:
            selection = select(fields["range"], record.size, record.content_type)
    digest = await repr_digest(fields.get("want-repr-digest", ""), record, storage)
    headers = caching | digest | _description(record, inline) | selection.headers
    if request.method == "HEAD":
        return Response(headers=headers)
    if elsewhere := offload(request, storage, record, headers):
        return elsewhere
    response = FileStream(storage, record, selection.pieces, selection.status, headers)
    if selection.status == 206 and "if-range" in fields:
        # What the client has from its first answer (section 15.3.7).
        del response.headers["last-modified"]
        if len(selection.pieces) == 1:
            del response.headers["content-type"]
    return response


router.head("/files/{file_id}", include_in_schema=False)(download_file)
# After the file route: the framework tries one after the other, and those of a router twice.
router.include_router(archive, dependencies=[Depends(_admission)])


def _caching(record: FileRecord, settings: DownloadSettings) -> dict[str, str]:
    """Return what a 304 has too: the validator, and how long the answer may be kept."""
    control = "private, no-cache"
    if seconds := int(settings.max_age):
        scope = "private" if record.owner else "public"
        control = f"{scope}, max-age={seconds}, immutable"
    return {"ETag": record.etag, "Cache-Control": control}


def _description(record: FileRecord, inline: bool) -> dict[str, str]:
    """Return the fields that describe a file, whatever of it is sent."""
    show = inline and INLINE.fullmatch(record.content_type) is not None
    return {
        **SAFETY,
        "Accept-Ranges": "bytes",
        # As it was stored: the framework would add a charset that nobody said.
        "Content-Type": record.content_type,
        "Content-Disposition": content_disposition(record.filename, inline=show),
        "Last-Modified": format_datetime(last_modified(record), usegmt=True),
    }


class Downloads(Part):
    """`GET, HEAD /files/{id}` (RFC 9110) and `GET, HEAD /archive` (ZIP); needs `Files`.

    Settings: `APP_DOWNLOAD__…`.
    """

    needs = (Files,)
    rank = 10
    sections: ClassVar[dict[str, Any]] = {"download": DownloadSettings}
    problem_types = (ENCODED,)

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)
