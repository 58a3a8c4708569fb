"""The tutorials' routes in a generated service, as an owner would add them.

The engine's `Service` has no part that owns one of these paths. Middleware and handlers that
tutorials recommend are here as well. Not here: the tutorials' access log, because every generated
service has one, and the protocol of uvicorn, which no code of an owner chooses.
"""

from pathlib import Path
from types import SimpleNamespace

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from .engine.errors import ProblemDocuments
from .engine.service import Service
from .settings import Settings
from .tutorial import runs, transforms
from .tutorial.downloads import router as downloads
from .tutorial.files import Directory, router as files
from .tutorial.timing import Timed
from .tutorial.topics import Topics, router as topics


async def nothing() -> None:
    """Do nothing: there is no sweep."""


def create_app(settings: Settings | None = None) -> Service:
    settings = settings or Settings()
    app = Service(settings, ProblemDocuments())
    app.state.storage = Directory(Path(settings.storage.url.removeprefix("file:")))
    app.state.uploads = SimpleNamespace(sweep=nothing)
    app.state.topics = Topics()
    app.include_router(files, max_body_size=settings.upload.max_size)
    app.include_router(downloads)
    app.include_router(transforms.router)
    app.include_router(topics)
    app.include_router(runs.router)

    @app.exception_handler(Exception)
    async def tell_everything(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 500)

    app.add_middleware(CORSMiddleware, allow_origins=settings.cors.origins.split(","))
    app.add_middleware(Timed)
    return app
