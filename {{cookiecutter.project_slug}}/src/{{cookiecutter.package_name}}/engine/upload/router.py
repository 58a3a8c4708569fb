"""`POST /files`: store the body of a request as one file, or the files of a form."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from ..kernel.admission import Admission
from ..kernel.body import RequestBody
from ..kernel.fields import joined, members
from ..kernel.part import Part
from ..kernel.problem import Problem
from ..storage.interface import Callbacks
from ..storage.part import Files, import_files
from ..storage.router import StorageDep, StoredFile
from ..streams.content import ENCODED
from ..streams.digests import MISMATCH, Digester, wanted_digest
from ..streams.structured import parse_item
from .forms import store_form
from .metadata import NOT_STORED, AllowedTypes, draft_of, is_form, stored_response
from .multipart import MALFORMED
from .rows import MALFORMED_ROWS
from .settings import UploadSettings

router = APIRouter(tags=["upload"])
#: The scope of uploads.
WRITE = "files:write"

_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "properties": {"files": {"type": "array", "items": _FILE, "minItems": 1}},
    "required": ["files"],
}
_NAME = "The file name; by default the one in `Content-Disposition`."
#: For OpenAPI: with a body parameter FastAPI would read the body before this module can.
_ANY_BODY: dict[str, Any] = {
    "parameters": [
        {"name": "filename", "in": "query", "schema": {"type": "string"}, "description": _NAME}
    ],
    "requestBody": {
        "description": "The file, with its own media type; or a form with files.",
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {"schema": _FORM},
        },
    },
}
_TEXT = {"schema": {"type": "string"}}
_STORED: dict[str, Any] = {
    "description": "The record of the file, or those of all files of a form.",
    "headers": {"Location": _TEXT, "Repr-Digest": _TEXT},
}


@router.post(
    "/files",
    status_code=201,
    response_model=StoredFile | list[StoredFile],
    responses={201: _STORED, 400: {}, 413: {}, 415: {}, 422: {}, 507: {}},
    openapi_extra=_ANY_BODY,
    dependencies=[Depends(Admission("upload", WRITE))],
)
async def upload_files(request: Request, storage: StorageDep) -> Response:
    """Store the raw body as a file, or all files of a form; responds when they are durable.

    `Content-Digest` and `Repr-Digest` are verified; `Want-Repr-Digest` is honoured (RFC 9530).
    """
    headers = request.headers
    is_complete = parse_item(joined(headers, "upload-complete"))
    if is_complete is False or b"?0" in members(headers.raw, b"upload-complete"):
        # ResumableUploads has a route for these. Stored here, the file would be incomplete.
        raise Problem(400, "Uploads in several requests are not available here.")
    if is_form(request):
        return stored_response(request, await store_form(request, storage))
    body = RequestBody(request, limit=request.app.state.settings.upload.max_size)
    wanted = wanted_digest(joined(headers, "want-repr-digest"))
    digests = [joined(headers, name) for name in ("content-digest", "repr-digest")]
    digester = Digester(digests, [wanted] if wanted else [])
    tap = digester.update if digester else None
    async with storage.create(draft_of(request), tap, body.declared or 0) as writer:
        async for chunk in body:
            await writer.write(chunk)
        await writer.flush()
        digester.verify()
        return stored_response(request, await storage.commit(writer, digester.encoded() or None))


def import_within_limits(settings: Any, paths: list[str]) -> None:
    """Run `serve import` with the maximum size and the allowed types of uploads."""
    accept = AllowedTypes(settings.upload.allowed_types)
    import_files(settings, paths, settings.upload.max_size, accept)


class Uploads(Part):
    """`POST /files`: a body or a form of any size (RFC 9110, RFC 7578); needs `Files`.

    Settings: `APP_UPLOAD__…`.
    """

    needs = (Files,)
    rank = 40  # After ResumableUploads, whose route of the same path must be tried first.
    sections: ClassVar[dict[str, Any]] = {"upload": UploadSettings}
    problem_types = (ENCODED, MALFORMED, MALFORMED_ROWS, MISMATCH, NOT_STORED)
    commands = MappingProxyType({"import": import_within_limits})

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        storage, types = app.state.storage, app.state.settings.upload.allowed_types
        if types:
            accept = Callbacks(accept=AllowedTypes(types))
            storage.callbacks = [accept, *storage.callbacks]
        yield
