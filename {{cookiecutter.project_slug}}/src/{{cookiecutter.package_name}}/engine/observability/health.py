"""Liveness and readiness, for orchestrators and load balancers; never limited.

Live: the event loop answers, and has not been stuck just now. Ready: it also takes new streams; 503
from the first moment of a drain, and while something that streams need is down.
`/` says where to go on, for people, unless a page is there.
"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ..kernel.kernel import kernel_of

router = APIRouter(tags=["health"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", responses={503: {"description": "Stuck."}})
async def live(request: Request) -> JSONResponse:
    """Answer 200 as long as the event loop runs, and 503 for a while when it was stuck."""
    if not kernel_of(request.scope).watchdog.is_live():
        return JSONResponse({"status": "stuck"}, 503)
    return JSONResponse({"status": "live"})


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: {"description": "Draining, or degraded."}})
async def ready(request: Request) -> JSONResponse:
    """Answer 200 when new streams are welcome, 503 while the service drains or lacks something."""
    kernel = kernel_of(request.scope)
    checks = {name: "up" if check() else "down" for name, check in kernel.checks.items()}
    if kernel.drain.draining:
        return JSONResponse({"status": "draining", **checks}, 503)
    if "down" in checks.values():
        return JSONResponse({"status": "degraded", **checks}, 503)
    return JSONResponse({"status": "ready", **checks})


async def index(request: Request) -> dict[str, str]:
    """Name the service and where to go on."""
    app = request.app
    docs = {"docs": app.docs_url} if app.openapi_url and app.docs_url else {}
    return {"service": app.title, **docs, "health": "/health/ready"}
