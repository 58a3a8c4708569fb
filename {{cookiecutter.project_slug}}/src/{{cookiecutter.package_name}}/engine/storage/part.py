"""The part of an application that stores files, and `serve import`."""

import asyncio
import errno
import math
import mimetypes
import os
import sqlite3
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar

from fastapi import FastAPI

from ..kernel.access import NAME
from ..kernel.part import Part
from ..kernel.problem import Problem
from ..kernel.threads import repeating
from .base import QUOTA, TOO_MANY_FILES, BaseStorage
from .interface import Callbacks
from .local import LocalStorage
from .place import LOOK_SECONDS, NO_SPACE, UNAVAILABLE
from .records import Draft, clean_filename
from .router import router
from .settings import StorageSettings

#: Bytes per read of an imported file.
CHUNK = 1 << 20


def storage_class(settings: StorageSettings) -> type[BaseStorage]:
    """Return the store of the settings' URL, which is a directory or a bucket."""
    if not settings.url.startswith("s3:"):
        return LocalStorage
    # Imported by name, as it is not generated unless it was chosen.
    chosen: type[BaseStorage] = import_module(f"{__package__}.s3.store").S3Storage
    return chosen


def storage_settings(settings: Any) -> StorageSettings:
    """Return the settings of the store, with the Redis of real-time events if it has no own one."""
    found: StorageSettings = settings.storage
    broker = settings.realtime.broker_url if hasattr(settings, "realtime") else "memory:"
    if found.redis_url is None and broker != "memory:":
        return found.model_copy(update={"redis_url": broker})
    return found


@asynccontextmanager
async def open_storage(
    settings: StorageSettings, callbacks: Sequence[Callbacks] = ()
) -> AsyncGenerator[BaseStorage]:
    """Open the store of the settings, recover from a crash, and sweep it while it is open."""
    storage = await asyncio.to_thread(storage_class(settings), settings, callbacks)
    try:
        async with storage.running():
            await storage.recover()
            async with (
                repeating(LOOK_SECONDS, storage.look),
                repeating(settings.sweep_interval, storage.sweep),
            ):
                yield storage
    finally:
        await storage.close()


def import_files(
    settings: Any,
    paths: list[str],
    limit: float = math.inf,
    accept: Callable[[Draft, bytes], None] | None = None,
) -> None:
    """Store each file and print its id and name; exit with 1 if one could not be stored.

    A file may have at most `limit` bytes, and `accept` raises Problem to refuse it. Only regular
    files are read: no links, devices, FIFOs or sockets. With access control, `paths` begin with
    `--owner NAME`.
    """
    owner = None
    if hasattr(settings, "access"):
        if len(paths) < 2 or paths[0] != "--owner" or not NAME.fullmatch(paths[1]):
            sys.exit("serve import --owner NAME PATH…: name the owner of the files")
        owner, paths = paths[1], paths[2:]
    if not paths:
        sys.exit("serve import PATH…: name at least one file")
    check_store(settings)
    sys.exit(asyncio.run(_import(storage_settings(settings), paths, owner, limit, accept)))


def check_store(settings: Any, use: Callable[[BaseStorage], object] = lambda storage: None) -> None:
    """Open the store, restrict its permissions, and `use` it; exit with one line if that fails."""

    async def open_and_close() -> None:
        storage = storage_class(settings.storage)(settings.storage, ())
        try:
            storage.prepare(int(settings.server.umask, 8))
            use(storage)
        finally:
            await storage.close()

    try:
        asyncio.run(open_and_close())
    except (OSError, sqlite3.Error) as error:
        name, reason = getattr(error, "filename", None), getattr(error, "strerror", None) or error
        reason = f"{name}: {reason}" if name else reason
        sys.exit(f"APP_STORAGE__URL: {settings.storage.url} cannot be used: {reason}")


class Files(Part):
    """`GET /files`, `GET /files/{id}/record`, `DELETE /files/{id}`; `serve import`, `serve move`.

    Uploads and downloads need it. Settings: `APP_STORAGE__…`.
    """

    rank = 20
    sections: ClassVar[dict[str, Any]] = {"storage": StorageSettings}
    problem_types = (NO_SPACE, QUOTA, TOO_MANY_FILES, UNAVAILABLE)

    def __init__(self, *callbacks: Callbacks | Callable[[FastAPI], Callbacks]) -> None:
        """`callbacks` are called in this order; functions create them when the service starts."""
        self._callbacks = callbacks
        self._lacks_owners = False
        self.commands = {"import": import_files}
        with suppress(ModuleNotFoundError):  # It is not generated unless it was chosen.
            if find_spec(f"{__package__}.s3"):
                self.commands["move"] = self._move

    def _move(self, settings: Any, arguments: list[str]) -> None:
        import_module(f"{__package__}.s3.move").move(self._app, settings, arguments)

    def check(self, settings: Any) -> None:
        chosen = storage_settings(settings)
        is_alone = chosen.url.startswith("s3:") and chosen.redis_url is None
        if is_alone and settings.server.workers > 1:
            sys.exit("APP_SERVER__WORKERS: several processes need APP_STORAGE__REDIS_URL with S3")

        def look(storage: BaseStorage) -> None:
            self._lacks_owners = storage.catalogue.lacks_owners()

        check_store(settings, look)

    def prepare(self, app: FastAPI) -> None:
        """Exit with one line if files from before access control have no owner."""
        if app.state.kernel.challenge and self._lacks_owners:
            url, give = app.state.settings.storage.url, "`serve keys adopt OWNER` gives them one"
            sys.exit(f"APP_STORAGE__URL: {url} has files or uploads without an owner: {give}")

    def adopt(self, settings: Any, owner: str) -> None:
        check_store(settings, lambda storage: storage.catalogue.adopt(owner))

    def add_to(self, app: FastAPI) -> None:
        self._app = app
        app.include_router(router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        state = app.state
        made = [each if isinstance(each, Callbacks) else each(app) for each in self._callbacks]
        async with open_storage(storage_settings(state.settings), made) as state.storage:
            state.storage.has_owners = state.kernel.challenge is not None
            state.kernel.checks["storage"] = state.storage.place.is_up
            state.kernel.measures += state.storage.measures()
            yield


async def _import(
    settings: StorageSettings,
    paths: list[str],
    owner: str | None,
    limit: float,
    accept: Callable[[Draft, bytes], None] | None,
) -> int:
    exit_code = 0
    async with open_storage(settings, [Callbacks(accept=accept)]) as storage:
        for path in map(Path, paths):
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            filename = clean_filename(path.name)
            draft = Draft(filename=filename, content_type=media_type, owner=owner)
            try:
                with _open_regular(path) as file:
                    size = os.fstat(file.fileno()).st_size
                    async with storage.create(draft, size=size) as writer:
                        while chunk := file.read(CHUNK):
                            if max(size, writer.size + len(chunk)) > limit:
                                raise Problem(413, f"A file may have at most {limit} bytes.")
                            await writer.write(chunk)
                        record = await storage.commit(writer)
                sys.stdout.write(f"{record.id} {record.filename}\n")
            except (OSError, Problem) as error:
                exit_code = 1
                reason = error.detail if isinstance(error, Problem) else error.strerror
                sys.stderr.write(f"{path}: {reason}\n")
    return exit_code


def _open_regular(path: Path) -> FileIO:
    """Open a regular file; raises OSError for everything else."""
    found = path.lstat()
    if stat.S_ISREG(found.st_mode):  # A device may react to being opened.
        # If it is replaced meanwhile: do not follow a link, and do not wait for a FIFO.
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        file = FileIO(path, opener=lambda name, mode: os.open(name, mode | flags))
        if os.path.samestat(found, os.fstat(file.fileno())):
            return file
        file.close()
    raise OSError(errno.EINVAL, "It is no regular file")
