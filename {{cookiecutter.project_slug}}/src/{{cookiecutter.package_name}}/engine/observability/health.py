"""Liveness and readiness for orchestrators and load balancers; no limit applies to their routes.

Live: the event loop runs, and was not stuck recently. Ready: the service also accepts new streams;
503 from the beginning of a drain, and while a resource that streams need is unavailable. A failing
check that is `tolerated` is only reported.
"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ..kernel.access import public
from ..kernel.kernel import kernel_of

router = APIRouter(tags=["health"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", responses={503: {"description": "Stuck."}})
@public
async def live(request: Request) -> JSONResponse:
    """Respond with 200 while the event loop runs, and with 503 for a while after it was stuck."""
    if not kernel_of(request.scope).watchdog.is_live():
        return JSONResponse({"status": "stuck"}, 503)
    return JSONResponse({"status": "live"})


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: {"description": "Draining, or degraded."}})
@public
async def ready(request: Request) -> JSONResponse:
    """Respond with 200 if new streams are accepted, and with 503 during a drain or an outage."""
    kernel = kernel_of(request.scope)
    checks = {name: "up" if check() else "down" for name, check in kernel.checks.items()}
    failing = {name for name, state in checks.items() if state == "down"}
    degraded = "degraded" if failing - kernel.tolerated else "ready"
    status = "draining" if kernel.drain.draining else degraded
    return JSONResponse({"status": status, **checks}, 200 if status == "ready" else 503)


@public
async def index(request: Request) -> dict[str, str]:
    """Respond at `/` with the name of the service and its pages, unless the owner has a route."""
    app = request.app
    docs = {"docs": app.docs_url} if app.openapi_url and app.docs_url else {}
    return {"service": app.title, **docs, "health": "/health/ready"}
