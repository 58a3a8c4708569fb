"""The generated service with a selected way of sending, and with additional routes.

python our_service.py PACKAGE zero-copy|page-cache|aiofiles
"""

import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import overhead_routes
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

#: The constants of each way of sending; the first is the default of the service.
WAYS: dict[str, dict[str, object]] = {
    "zero-copy": {},
    "page-cache": {"ZERO_COPY": False},
    "aiofiles": {"ZERO_COPY": False, "NOWAIT": 0},
}


class Row(BaseModel):
    """A row of an export."""

    number: int
    name: str
    price: float
    available: bool
    changed: datetime


ROW = Row(
    number=123_456,
    name="a row of five fields",
    price=19.75,
    available=True,
    changed=datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
)


async def rows(count: int = 10) -> AsyncGenerator[Row]:
    """Repeat one existing row."""
    for _ in range(count):
        yield ROW


def switch(package: str, name: str, value: object) -> None:
    """Set a constant in each module of the engine that defines it; fail if none does."""
    ours = [module for key, module in sys.modules.items() if key.startswith(f"{package}.")]
    having = [module for module in ours if type(getattr(module, name, None)) is type(value)]
    if not having:
        sys.exit(f"{package} has no constant {name}")
    for module in having:
        setattr(module, name, value)


def main(package: str, way: str) -> None:
    app_module: Any = import_module(f"{package}.app")
    engine = engine_of(package)
    cli = import_module(f"{engine}.server.cli")
    for name in ("asgi", "protocol"):  # Before 0.3.0 it was `protocol`.
        if find_spec(f"{engine}.server.{name}"):
            import_module(f"{engine}.server.{name}")
    for name, value in WAYS[way].items():
        switch(package, name, value)
    create = app_module.create_app

    def create_app(settings: object = None) -> FastAPI:
        app: FastAPI = create(settings)
        app.include_router(overhead_routes.router)
        routes = app.router.routes
        routes.insert(0, routes.pop())  # The first route, as in the bare application.
        app.include_router(additions(package))
        return app

    if engine == package:
        app_module.create_app = create_app
        cli.main([])
    else:
        cli.main(create_app, import_module(f"{package}.settings").Settings, [])


def engine_of(package: str) -> str:
    """Return the package of the engine; before 0.2.0 it was the package of the service."""
    return f"{package}.engine" if find_spec(f"{package}.engine") else package


def additions(package: str) -> APIRouter:
    """Return additional routes, with the same dependencies and middleware as other routes."""
    engine = engine_of(package)
    exports = import_module(f"{engine}.download.exports")
    kernel = import_module(f"{package}.streaming" if engine == package else f"{engine}.kernel")
    admission = [Depends(kernel.Admission("download"))]
    router = APIRouter()
    if engine == package:
        exports.export("benchmark")(rows)
        router.include_router(exports.router, dependencies=admission)
    else:
        own = exports.ExportRouter(prefix="/exports")
        own.export("/benchmark")(rows)
        router.include_router(own)

    @router.get("/response/{file_id}", dependencies=admission)
    async def respond(file_id: str, request: Request) -> FileResponse:
        storage = request.app.state.storage
        record = await storage.record(file_id)
        return FileResponse(
            storage.path(file_id), media_type=record.content_type, filename=record.filename
        )

    return router


if __name__ == "__main__":
    main(*sys.argv[1:])
