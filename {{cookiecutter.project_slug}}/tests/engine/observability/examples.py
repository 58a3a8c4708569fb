"""The service with routes that go wrong; tests run a copy, with `APP_WORKERS` workers.

The workers do not share a broker, because these routes publish no events.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from {{cookiecutter.package_name}} import app
from {{cookiecutter.package_name}}.engine.kernel import Admission
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.settings import Settings

router = APIRouter()


@router.get("/crash")
async def crash() -> None:
    raise ValueError("what went wrong")


@router.get("/broken", response_class=StreamingResponse)
async def broken() -> StreamingResponse:
    async def source() -> AsyncGenerator[bytes]:
        yield b"x"
        raise ValueError("what went wrong")

    return StreamingResponse(source())


@router.get("/endless", dependencies=[Depends(Admission("examples"))])
async def endless() -> StreamingResponse:
    async def source() -> AsyncGenerator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)  # Meanwhile the server detects a client that has left.

    return StreamingResponse(source())


@router.get("/chunks", response_class=StreamingResponse)
async def chunks(count: int) -> StreamingResponse:
    async def source() -> AsyncGenerator[bytes]:
        for _ in range(count):
            yield b"x"

    return StreamingResponse(source())


@router.get("/stuck")
async def stuck(seconds: float) -> str:
    time.sleep(seconds)
    return "not any more"


@router.get("/process")
async def process() -> int:
    structlog.get_logger().info("asked")
    return os.getpid()


def several(settings: Settings, workers: int) -> Settings:
    """Return settings with several workers, which a memory broker does not permit."""
    server = settings.server.model_copy(update={"workers": workers})
    return settings.model_copy(update={"server": server})


def settings_of_environment() -> Settings:
    return several(Settings(), int(os.environ.get("APP_WORKERS", "1")))


def create_app(settings: Settings | None = None) -> Service:
    made = app.create_app(settings or settings_of_environment())
    made.include_router(router)
    return made


if __name__ == "__main__":
    cli.serve(create_app, settings_of_environment())
