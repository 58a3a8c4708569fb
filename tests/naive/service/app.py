"""The service as the tutorials write it, under the paths of ours: every trap can be seen on it.

A test of the template lays these files over a generated service and runs the tests of its traps:
each of them has to fail here.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.middleware.base import BaseHTTPMiddleware

from . import observability
from .download.transforms import router as transforms
from .settings import Settings
from .streaming import RequestBody
from .tutorial.access_log import AccessLog
from .tutorial.downloads import router as downloads
from .tutorial.files import Directory, router as files
from .tutorial.topics import Topics, router as topics

COMMANDS: dict[str, Callable[..., None]] = {}
CHECKS: list[Callable[..., None]] = []


async def nothing() -> None:
    """There is no sweeper."""


def read_as_the_framework_does(body: Any, request: Request, limit: int) -> None:
    """No limit, no deadline, and within a response a second reader beside the framework's own."""
    body.__dict__.update(request=request, limit=limit, declared=None, received=0)


RequestBody.__init__ = read_as_the_framework_does
RequestBody.__aiter__ = lambda body: body.request.stream()
RequestBody.read = lambda body: body.request.body()


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    app = FastAPI()
    app.state.settings = settings
    app.state.storage = Directory(Path(settings.storage.url.removeprefix("file:")))
    app.state.uploads = SimpleNamespace(sweep=nothing)
    app.state.topics = Topics()
    app.state.kernel = SimpleNamespace(
        observe=lambda _: None,
        channels=app.state.topics.subscribers,
        streams=Counter(),
        drain=SimpleNamespace(begin=lambda: None, draining=False),
        media_type="application/json",
        error_schema={"title": "HTTPValidationError", "required": ["detail"]},
    )
    app.include_router(files)
    app.include_router(downloads)
    app.include_router(transforms)
    app.include_router(topics)

    @app.get("/health/live")
    @app.get("/health/ready")
    async def healthy() -> str:
        return "ok"

    @app.exception_handler(Exception)
    async def tell_everything(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 500)

    app.add_middleware(CORSMiddleware, allow_origins=settings.cors.origins.split(","))
    app.add_middleware(Timed)
    provider = observability.telemetry().get("tracer_provider")
    app.add_middleware(AccessLog, kernel=app.state.kernel, provider=provider)
    return app


class Timed(BaseHTTPMiddleware):
    """In the way of one path only: it would swallow what streams raise, and so hide other traps."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_timed = scope.get("path") == "/timed"
        await (super().__call__ if is_timed else self.app)(scope, receive, send)

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        started = time.monotonic()
        response = await call_next(request)
        response.headers["X-Process-Time"] = str(time.monotonic() - started)
        return response
