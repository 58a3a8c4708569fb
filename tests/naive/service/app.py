"""A service written like the tutorials, with the paths of a generated service and every trap.

A test of the template copies these files over a generated service and runs the tests of the traps,
each of which must fail.
"""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from . import runs, transforms
from .engine import observability
from .engine.kernel import RequestBody
from .engine.tutorial.access_log import AccessLog
from .engine.tutorial.downloads import router as downloads
from .engine.tutorial.files import Directory, router as files
from .engine.tutorial.timing import Timed
from .engine.tutorial.topics import Topics, router as topics
from .settings import Settings


class Tutorial(FastAPI):
    """A part without checks and commands."""

    commands: ClassVar[dict[str, Any]] = {}
    parts: ClassVar[tuple[Any, ...]] = ()
    settings: Settings

    def check(self) -> None:
        """Accept all settings."""


async def nothing() -> None:
    """Do nothing: there is no sweep."""


def read_as_the_framework_does(body: Any, request: Request, limit: int) -> None:
    """Read without a limit or a deadline, while the framework may read as well."""
    body.__dict__.update(request=request, limit=limit, declared=None, received=0)


RequestBody.__init__ = read_as_the_framework_does
RequestBody.__aiter__ = lambda body: body.request.stream()
RequestBody.read = lambda body: body.request.body()


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    app = Tutorial()
    app.settings = app.state.settings = settings
    app.state.storage = Directory(Path(settings.storage.url.removeprefix("file:")))
    app.state.uploads = SimpleNamespace(sweep=nothing)
    app.state.topics = Topics()
    app.state.kernel = SimpleNamespace(
        challenge=None,
        observe=lambda _: None,
        channels=app.state.topics.subscribers,
        streams=Counter(),
        drain=SimpleNamespace(begin=lambda: None, draining=False),
        media_type="application/json",
        error_schema={"title": "HTTPValidationError", "required": ["detail"]},
    )
    app.include_router(files)
    app.include_router(downloads)
    app.include_router(transforms.router)
    app.include_router(topics)
    app.include_router(runs.router)

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
