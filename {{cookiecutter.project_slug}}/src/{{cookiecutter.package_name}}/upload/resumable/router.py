"""`/uploads`: the resources of uploads that can be resumed, in two protocols.

A request with `Tus-Resumable` is one of tus, any other one of the IETF's draft; both see the same
uploads, and `OPTIONS` tells of both. `POST /files` with `Upload-Complete` is a creation too.
"""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from ...streaming import Admission, Problem
from . import draft, tus

logger = logging.getLogger(__name__)

ALLOW = "POST, HEAD, GET, PATCH, DELETE, OPTIONS"
ACCEPT = f"{tus.MEDIA_TYPE}, {draft.MEDIA_TYPE}"


class _UploadAdmission(Admission):
    """Holds no slot for what brings no bytes: it may free one that a stalled request has."""

    async def __call__(self, request: Request) -> AsyncIterator[None]:
        if tus.method_of(request) in ("HEAD", "GET", "DELETE"):
            yield
            return
        async for _ in super().__call__(request):
            yield


class _UploadRoute(APIRoute):
    """Says in every answer, also in a refusal, what its protocol wants to be said."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            more = {}
            if "tus-resumable" in request.headers:
                more["Tus-Resumable"] = tus.VERSION
            try:
                response = await handler(request)
            except HTTPException as error:
                if error.status_code == 413:
                    more["Upload-Limit"] = draft.limits(request)
                if "upload-complete" in request.headers:
                    more["Upload-Complete"] = "?0"
                error.headers = {**more, **(error.headers or {})}
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


router = APIRouter(tags=["upload"], route_class=_UploadRoute)
_admission = Depends(_UploadAdmission("upload"))


async def create_upload(request: Request) -> Response:
    """Begin an upload."""
    protocol: Any = draft
    method = request.method
    if "tus-resumable" in request.headers:
        tus.check_version(request)
        protocol, method = tus, tus.method_of(request)
    if method != "POST":
        raise Problem(405, headers={"Allow": "POST, OPTIONS"})
    return await protocol.create(request)  # type: ignore[no-any-return]


async def use_upload(request: Request, upload_id: str) -> Response:
    """Tell the offset of an upload, append to it, or remove it, as the method says."""
    protocol: Any = draft
    method = request.method
    if "tus-resumable" in request.headers:
        tus.check_version(request)
        protocol, method = tus, tus.method_of(request)
    if method == "GET":
        protocol = draft  # A browser's question, whoever asks: it leads to the file.
    match method:
        case "HEAD" | "GET":
            return await protocol.offset(request, upload_id)  # type: ignore[no-any-return]
        case "PATCH":
            return await protocol.append(request, upload_id)  # type: ignore[no-any-return]
        case "DELETE":
            return await protocol.cancel(request, upload_id)  # type: ignore[no-any-return]
    raise Problem(405, headers={"Allow": ALLOW})


async def upload_options(request: Request) -> Response:
    """Tell the protocols, their extensions and limits."""
    headers = tus.options(request)
    headers |= {"Upload-Limit": draft.limits(request), "Accept-Patch": ACCEPT, "Allow": ALLOW}
    return Response(status_code=204, headers=headers)


#: For all methods, as tus lets a client send any one and mean another.
METHODS = ("POST", "PATCH", "HEAD", "GET", "DELETE", "PUT")


def _route(path: str, endpoint: Callable[..., Any], methods: Sequence[str], *shown: str) -> None:
    for method in methods:
        router.add_api_route(
            path, endpoint, methods=[method], response_class=Response, status_code=204,
            dependencies=[_admission], include_in_schema=method in shown,
        )  # fmt: skip


_route("/uploads", create_upload, METHODS, "POST")
_route("/uploads/", create_upload, METHODS)
_route("/uploads/{upload_id}", use_upload, METHODS, "PATCH", "HEAD", "GET", "DELETE")
for path in ("/uploads", "/uploads/", "/uploads/{upload_id}", "/files"):
    router.options(path, status_code=204, include_in_schema=path == "/uploads")(upload_options)
router.add_api_route(
    "/files", draft.create, methods=["POST"], response_class=Response,
    dependencies=[_admission], include_in_schema=False,
    route_class_override=_CreationRoute,
)  # fmt: skip
