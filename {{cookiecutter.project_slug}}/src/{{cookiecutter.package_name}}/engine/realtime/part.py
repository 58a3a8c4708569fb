"""The part of the application that sends events."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from fastapi import FastAPI

from ..kernel.part import Part
from ..streams.content import ENCODED
from . import followers, publishing, runs, topics
from .backends import KEY_REUSED, UNAVAILABLE, check_backend
from .hub import open_hub
from .router import router as topics_router
from .run_router import router as run_router
from .settings import RealtimeSettings


class Realtime(Part):
    """Topics and runs: `/topics/…` and `/runs/…`. Settings: `APP_REALTIME__…`."""

    rank = 0  # Callbacks of files publish events.
    routes_last = True  # A stream is opened once; each route before a file's costs every download.
    sections: ClassVar[dict[str, Any]] = {"realtime": RealtimeSettings}
    problem_types = (
        ENCODED,
        KEY_REUSED,
        UNAVAILABLE,
        followers.TOO_MANY,
        followers.TOO_MANY_OF_CLIENT,
        publishing.TOO_MANY,
        runs.TOO_MANY,
        topics.FULL,
    )

    def check(self, settings: Any) -> None:
        check_backend(settings.realtime)

    def add_to(self, app: FastAPI) -> None:
        app.include_router(topics_router)
        app.include_router(run_router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        state = app.state
        async with open_hub(state.settings.realtime, state.kernel) as state.hub:
            yield
