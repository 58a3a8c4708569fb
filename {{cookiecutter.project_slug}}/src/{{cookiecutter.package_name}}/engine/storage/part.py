"""The part of the application that stores files."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from fastapi import FastAPI

from ..kernel.part import Part
from .callbacks import Callbacks, combined
from .importing import import_files
from .opening import check_storage, open_storage
from .place import NO_SPACE, UNAVAILABLE
from .room import QUOTA
from .router import router
from .settings import StorageSettings


class Files(Part):
    """`GET /files`, `GET /files/{id}/record`, `DELETE /files/{id}`; `serve import PATH…`.

    Uploads and downloads need it. Settings: `APP_STORAGE__…`.
    """

    rank = 20
    sections: ClassVar[dict[str, Any]] = {"storage": StorageSettings}
    problem_types = (NO_SPACE, QUOTA, UNAVAILABLE)
    commands: ClassVar[dict[str, Any]] = {"import": import_files}

    def __init__(self, *callbacks: Callbacks | Callable[[FastAPI], Callbacks]) -> None:
        """`callbacks` are called in this order; a function makes some when the service starts."""
        self._callbacks = callbacks

    def check(self, settings: Any) -> None:
        check_storage(settings.storage)

    def add_to(self, app: FastAPI) -> None:
        app.include_router(router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        state = app.state
        made = [each if isinstance(each, Callbacks) else each(app) for each in self._callbacks]
        opening = open_storage(state.settings.storage, combined(made), state.kernel)
        async with opening as state.storage:
            yield
