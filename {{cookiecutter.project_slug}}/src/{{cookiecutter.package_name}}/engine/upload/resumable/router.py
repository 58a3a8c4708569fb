"""`/uploads`: the resources of uploads that can be resumed, in two protocols.

A request with `Tus-Resumable` is one of tus, any other one of the IETF's draft; both see the same
uploads, and `OPTIONS` tells of both. `POST /files` with `Upload-Complete` is a creation too.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from ...kernel.admission import Admission
from ...kernel.body import whole_request
from ...kernel.exchange import exchange_of
from ...kernel.part import Part
from ...kernel.problem import Problem
from ...storage.part import Files
from ...storage.records import FileId
from ..router import Uploads
from . import draft, tus
from .draft import INCONSISTENT_LENGTH, MISMATCHING_OFFSET
from .session import BUSY, TAKEN_OVER, Interrupted
from .sessions import TOO_MANY, open_sessions
from .settings import ResumableUploadSettings

logger = logging.getLogger(__name__)

#: Of every address, as tus lets a client send any of them and mean another.
METHODS = ["POST", "PATCH", "HEAD", "GET", "DELETE", "PUT"]
ALLOW = {
    "/files": "GET, POST, OPTIONS",
    "/uploads": "POST, OPTIONS",
    "/uploads/": "POST, OPTIONS",
    "/uploads/{upload_id}": "HEAD, GET, PATCH, DELETE, OPTIONS",
}
ACCEPT = f"{tus.MEDIA_TYPE}, {draft.MEDIA_TYPE}"

_admission = Admission("upload")

#: For OpenAPI: the fields and bodies of the draft; of the two protocols a client speaks one.
_COMPLETE = {
    "name": "Upload-Complete",
    "in": "header",
    "required": True,
    "description": "Whether this is all (`?1`), or more will come.",
    "schema": {"type": "string", "enum": ["?0", "?1"]},
}
_OFFSET = {
    "name": "Upload-Offset",
    "in": "header",
    "required": True,
    "description": "How many bytes are there.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_CREATION: dict[str, Any] = {
    "parameters": [_COMPLETE],
    "requestBody": {
        "description": "The first bytes, as the media type of the file.",
        "content": {"application/octet-stream": _BYTES},
    },
}
_APPEND: dict[str, Any] = {
    "parameters": [_OFFSET, _COMPLETE],
    "requestBody": {"content": {draft.MEDIA_TYPE: _BYTES}},
}
_STORED = {"description": "This was all, and is a file; or where to go on, from a `POST`."}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {},
    410: {"description": "The upload has expired."},
    423: {"description": "Another request works on it, to tus."},
    503: {"description": "Another request works on it."},
}


class _UploadRoute(APIRoute):
    """Says in every answer, also in a refusal, what its protocol wants to be said."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            more = {"Tus-Resumable": tus.VERSION} if tus.is_spoken(request) else {}
            try:
                response = await handler(request)
            except HTTPException as error:
                if error.status_code == 423 and not tus.is_spoken(request):
                    error.status_code = 503  # At a 4xx the clients of the draft give up.
                if error.status_code == 413:
                    more["Upload-Limit"] = draft.limits(request)
                if "upload-complete" in request.headers:
                    more["Upload-Complete"] = "?0"
                error.headers = {**more, **(error.headers or {})}
                if isinstance(error, Interrupted):
                    await exchange_of(request.scope).hang_up(error.outcome)
                raise
            except ClientDisconnect:
                raise
            except Exception as error:
                logger.exception("%s %s failed", request.method, request.url.path)
                raise Problem(500, headers=more) from error
            response.headers.update(more)
            return response

        return handle


class _CreationRoute(_UploadRoute):
    """Takes requests that begin an upload of the draft, and leaves all others to other routes."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL and not draft.is_creation(Request(scope)):
            return Match.NONE, {}
        return match, child


router = APIRouter(tags=["upload"], route_class=_UploadRoute, default_response_class=Response)


@router.api_route("/uploads/", methods=METHODS, include_in_schema=False)
@router.api_route("/uploads", methods=METHODS, include_in_schema=False)
@router.post("/uploads", status_code=201, responses={201: _STORED}, openapi_extra=_CREATION)
async def create_upload(request: Request) -> Response:
    """Begin an upload, by the draft or (with `Tus-Resumable` and its own fields) by tus."""
    protocol = _protocol_of(request)
    if tus.method_of(request) != "POST":
        raise Problem(405, headers={"Allow": ALLOW["/uploads"]})
    await _admission(request)
    response: Response = await protocol.create(request)
    return response


@router.api_route("/uploads/{upload_id}", methods=METHODS, include_in_schema=False)
@router.delete("/uploads/{upload_id}", name="cancel_upload", status_code=204, responses=_RESPONSES)
@router.get("/uploads/{upload_id}", name="find_upload", status_code=204, responses=_RESPONSES)
@router.head(
    "/uploads/{upload_id}",
    name="upload_offset",
    status_code=204,
    responses={**_RESPONSES, 200: {"description": "The same, to tus."}},
)
@router.patch(
    "/uploads/{upload_id}",
    name="append_to_upload",
    status_code=204,
    responses={**_RESPONSES, 201: _STORED, 409: {}},
    openapi_extra=_APPEND,
)
async def use_upload(request: Request, upload_id: FileId) -> Response:
    """Tell the offset of an upload, append to it, or remove it, as the method says."""
    protocol, method = _protocol_of(request), tus.method_of(request)
    actions = {
        "HEAD": protocol.offset,
        "GET": draft.offset,  # tus has no such question.
        "PATCH": protocol.append,
        "DELETE": protocol.cancel,
    }
    if method not in actions:
        raise Problem(405, headers={"Allow": ALLOW["/uploads/{upload_id}"]})
    if method == "PATCH":
        await _admission(request)  # Not the others: they may free the slot of a stalled request.
    else:
        await whole_request(request)
    response: Response = await actions[method](request, upload_id)
    return response


@router.options("/files", include_in_schema=False)
@router.options("/uploads/{upload_id}", include_in_schema=False)
@router.options("/uploads/", include_in_schema=False)
@router.options("/uploads")
async def upload_options(request: Request) -> Response:
    """Tell the protocols, their extensions and limits."""
    headers = tus.options(request)
    headers |= {"Upload-Limit": draft.limits(request), "Accept-Patch": ACCEPT}
    headers["Allow"] = ALLOW[request.scope["route"].path]
    return Response(headers=headers)


router.add_api_route(
    "/files",
    draft.create,
    methods=["POST"],
    dependencies=[Depends(_admission)],
    include_in_schema=False,
    route_class_override=_CreationRoute,
)


def _protocol_of(request: Request) -> Any:
    if not tus.is_spoken(request):
        return draft
    tus.check_version(request)
    return tus


class ResumableUploads(Part):
    """`/uploads`, by tus 1.0 and the IETF's draft; needs `Files`, and `Uploads` beside it.

    Settings: those of `ResumableUploadSettings`, as `APP_UPLOAD__…`.
    """

    needs = (Files, Uploads)
    rank = 30
    sections: ClassVar[dict[str, Any]] = {"upload": ResumableUploadSettings}
    problem_types = (BUSY, INCONSISTENT_LENGTH, MISMATCHING_OFFSET, TAKEN_OVER, TOO_MANY)

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        settings = app.state.settings
        sweep_interval = settings.storage.sweep_interval
        async with open_sessions(app.state.storage, settings.upload, sweep_interval) as sessions:
            app.state.uploads = sessions
            yield
