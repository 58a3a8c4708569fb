"""The part of the application that sends events."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from fastapi import FastAPI

from ..kernel.part import Part
from ..streams.content import ENCODED
from . import limits, messages, runs
from .backends import UNAVAILABLE, check_backend
from .hub import open_hub
from .router import router
from .settings import RealtimeSettings


class Realtime(Part):
    """Topics and runs: `/topics/…` and `/runs/…`. Settings: `APP_REALTIME__…`."""

    rank = 0  # Opened first, as callbacks of files publish events.
    routes_last = True  # A stream is opened once; a route before those of files costs each request.
    sections: ClassVar[dict[str, Any]] = {"realtime": RealtimeSettings}
    problem_types = (
        ENCODED,
        messages.KEY_REUSED,
        UNAVAILABLE,
        limits.TOPIC_FULL,
        limits.TOO_MANY_TOPICS,
        limits.TOO_MANY_OF_CLIENT,
        limits.TOO_MANY_EVENTS,
        runs.TOO_MANY_RUNS,
    )

    def check(self, settings: Any) -> None:
        check_backend(settings.realtime)

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)
        app.include_router(runs.router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        state = app.state
        async with open_hub(state.settings.realtime, state.kernel) as state.hub:
            yield
