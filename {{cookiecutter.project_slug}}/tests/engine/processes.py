"""A service that tests start, change and break, with `APP_WORKERS` processes."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import APIRouter, FastAPI

from {{cookiecutter.package_name}} import app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.settings import Settings

VERSION = "first"


async def never_notice(server: uvicorn.Server) -> None:
    """Wait without looking for signals; uvicorn looks ten times per second."""
    await asyncio.Event().wait()


if os.environ.get("APP_SLOW"):
    uvicorn.Server.main_loop = never_notice  # type: ignore[assignment]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    if os.environ.get("APP_FAILS"):
        raise RuntimeError("there is no database")
    yield


router = APIRouter(lifespan=lifespan)


def read_settings() -> Settings:
    """Return settings with several workers, which a memory broker does not permit."""
    settings = Settings()
    workers = int(os.environ.get("APP_WORKERS", "1"))
    server = settings.server.model_copy(update={"workers": workers})
    return settings.model_copy(update={"server": server})


def create_app(settings: Settings) -> Service:
    made = app.create_app(settings)
    made.include_router(router)

    @made.get("/version")
    async def version() -> tuple[str, int]:
        return VERSION, settings.streaming.max_streams

    return made


if __name__ == "__main__":
    cli.main(create_app, read_settings)
