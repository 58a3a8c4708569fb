"""`/uploads`: resumable uploads in two protocols.

A request with `Tus-Resumable` uses tus, any other request the IETF draft. Both protocols share the
same uploads, and `OPTIONS` describes both. `POST /files` with `Upload-Complete` creates an upload
too.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from ...kernel.access import asks_for, public, require
from ...kernel.admission import Admission
from ...kernel.body import whole_request
from ...kernel.exchange import HANG_UP, Exchange, Outcome, exchange_of
from ...kernel.part import Part
from ...kernel.problem import Problem
from ...kernel.threads import repeating
from ...storage.part import Files, check_store
from ...storage.partials import open_partials
from ...storage.records import FileId
from ..router import WRITE, Uploads
from . import draft, tus
from .draft import INCONSISTENT_LENGTH, MISMATCHING_OFFSET
from .sessions import BUSY, TAKEN_OVER, TOO_MANY, Interrupted, Sessions
from .settings import ResumableUploadSettings

logger = logging.getLogger(__name__)

#: The methods of every path: with X-HTTP-Method-Override, tus lets a client send any of them.
METHODS = ["POST", "PATCH", "HEAD", "GET", "DELETE", "PUT"]
ALLOW = {
    "/files": "GET, POST, OPTIONS",
    "/uploads": "POST, OPTIONS",
    "/uploads/": "POST, OPTIONS",
    "/uploads/{upload_id}": "HEAD, GET, PATCH, DELETE, OPTIONS",
}

_admission = Admission("upload", WRITE)


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """Return a required header for OpenAPI."""
    located = {"name": name, "in": "header", "required": True}
    return {**located, "description": description, "schema": schema}


#: For OpenAPI: the headers and bodies of the draft.
_COMPLETE = _header(
    "Upload-Complete", "`?1` if the body is complete, else `?0`.", type="string", enum=["?0", "?1"]
)
_OFFSET = _header(
    "Upload-Offset", "The bytes received so far.", type="integer", minimum=0, maximum=10**15 - 1
)
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_CREATION: dict[str, Any] = {
    "parameters": [_COMPLETE],
    "requestBody": {
        "description": "The first bytes, with the media type of the file.",
        "content": {"application/octet-stream": _BYTES},
    },
}
_APPEND: dict[str, Any] = {
    "parameters": [_OFFSET, _COMPLETE],
    "requestBody": {"content": {draft.MEDIA_TYPE: _BYTES}},
}
_STORED = {"description": "The upload is a file now; after `POST` with `?0`, it was created."}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {},
    410: {"description": "The upload has expired."},
    423: {"description": "Another request uses the upload (tus)."},
    503: {"description": "Another request uses the upload."},
}


class _UploadRoute(APIRoute):
    """Adds the headers of the protocol to every response, also to errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            headers = {"Tus-Resumable": tus.VERSION} if tus.is_spoken(request) else {}
            try:
                response = await handler(request)
            except HTTPException as error:
                if error.status_code == 423 and not tus.is_spoken(request):
                    error.status_code = 503  # Clients of the draft give up after a 4xx.
                if error.status_code == 413:
                    headers["Upload-Limit"] = draft.limits(request)
                if "upload-complete" in request.headers:
                    headers["Upload-Complete"] = "?0"
                error.headers = {**headers, **(error.headers or {})}
                if isinstance(error, Interrupted):
                    await _hang_up(exchange_of(request.scope), error.outcome)
                raise
            except ClientDisconnect:
                raise
            except Exception as error:
                logger.exception("%s %s failed", request.method, request.url.path)
                raise Problem(500, headers=headers) from error
            response.headers.update(headers)
            return response

        return handle


class _CreationRoute(_UploadRoute):
    """Matches requests that create an upload of the draft; other routes get the rest."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL:
            request = Request(scope)
            if "upload-complete" not in request.headers or not draft.is_creation(request):
                return Match.NONE, {}
        return match, child


router = APIRouter(tags=["upload"], route_class=_UploadRoute, default_response_class=Response)


@router.api_route("/uploads/", methods=METHODS, include_in_schema=False)
@router.api_route("/uploads", methods=METHODS, include_in_schema=False)
@router.post("/uploads", status_code=201, responses={201: _STORED}, openapi_extra=_CREATION)
@asks_for(WRITE)
async def create_upload(request: Request) -> Response:
    """Create an upload with the draft, or with tus (`Tus-Resumable` and its headers)."""
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
    responses={**_RESPONSES, 200: {"description": "The same with tus."}},
)
@router.patch(
    "/uploads/{upload_id}",
    name="append_to_upload",
    status_code=204,
    responses={**_RESPONSES, 201: _STORED, 409: {}},
    openapi_extra=_APPEND,
)
@asks_for(WRITE)
async def use_upload(request: Request, upload_id: FileId) -> Response:
    """Return the offset of an upload, append to it, or delete it, depending on the method."""
    protocol, method = _protocol_of(request), tus.method_of(request)
    actions = {
        "HEAD": protocol.offset,
        "GET": draft.offset,  # tus has no GET.
        "PATCH": protocol.append,
        "DELETE": _cancel,
    }
    if method not in actions:
        raise Problem(405, headers={"Allow": ALLOW["/uploads/{upload_id}"]})
    if method == "PATCH":
        await _admission(request)  # The other methods may end a stalled PATCH.
    else:
        require(request, WRITE)
        await whole_request(request)
    response: Response = await actions[method](request, upload_id)
    return response


@router.options("/files", include_in_schema=False)
@router.options("/uploads/{upload_id}", include_in_schema=False)
@router.options("/uploads/", include_in_schema=False)
@router.options("/uploads")
@public
async def upload_options(request: Request) -> Response:
    """Return the protocols, their extensions and limits."""
    headers = tus.options(request)
    headers["Upload-Limit"] = draft.limits(request)
    headers["Accept-Patch"] = f"{tus.MEDIA_TYPE}, {draft.MEDIA_TYPE}"
    headers["Allow"] = ALLOW[request.scope["route"].path]
    return Response(headers=headers)


async def _cancel(request: Request, upload_id: str) -> Any:
    cancel = partial(_protocol_of(request).cancel, request, upload_id)
    return await request.app.state.storage.freeing(cancel)


router.add_api_route(
    "/files",
    draft.create,
    methods=["POST"],
    dependencies=[Depends(_admission)],
    include_in_schema=False,
    route_class_override=_CreationRoute,
)


def _protocol_of(request: Request) -> Any:
    """Return the module of the protocol; raises Problem 412 for another version of tus."""
    if not tus.is_spoken(request):
        return draft
    tus.check_version(request)
    return tus


class ResumableUploads(Part):
    """`/uploads`, with tus 1.0 and the IETF draft; needs `Files` and `Uploads`.

    Settings: those of `ResumableUploadSettings`, as `APP_UPLOAD__…`.
    """

    needs = (Files, Uploads)
    rank = 30
    sections: ClassVar[dict[str, Any]] = {"upload": ResumableUploadSettings}
    problem_types = (BUSY, INCONSISTENT_LENGTH, MISMATCHING_OFFSET, TAKEN_OVER, TOO_MANY)

    def check(self, settings: Any) -> None:
        check_store(settings, lambda storage: open_partials(storage, 1))

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        settings = app.state.settings
        partials = open_partials(app.state.storage, settings.upload.max_concatenations)
        sessions = app.state.uploads = Sessions(partials, settings.upload)
        await sessions.sweep()  # Finishes the uploads that a crash interrupted.
        async with repeating(settings.storage.sweep_interval, sessions.sweep):
            yield


async def _hang_up(exchange: Exchange, outcome: Outcome) -> None:
    """End the connection without a response and raise ClientDisconnect, if the server supports it.

    Clients resume after a broken connection, but most of them give up after an error response.
    """
    exchange.outcome = outcome
    if HANG_UP in (exchange.scope.get("extensions") or {}):
        await exchange.send({"type": HANG_UP})
        raise ClientDisconnect
