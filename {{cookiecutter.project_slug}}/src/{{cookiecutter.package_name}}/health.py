"""Liveness and readiness, for orchestrators and load balancers; never limited, never logged away.

Live: the process answers. Ready: it also takes new streams; 503 from the first moment of a drain.
"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from .streaming import kernel_of

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Answer as long as the event loop runs."""
    return {"status": "live"}


@router.get("/health/ready", responses={503: {"description": "The service is draining."}})
async def ready(request: Request) -> JSONResponse:
    """Answer 200 when new streams are welcome, 503 while the service drains."""
    if kernel_of(request.scope).drain.draining:
        return JSONResponse({"status": "draining"}, 503)
    return JSONResponse({"status": "ready"})


router.head("/health/live", include_in_schema=False)(live)
router.head("/health/ready", include_in_schema=False)(ready)
