"""Stores without routes: open one, and store and read files."""

import errno
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio.to_thread

from {{cookiecutter.package_name}}.engine.storage import Draft, FileRecord, Storage
from {{cookiecutter.package_name}}.engine.storage.base import BaseStorage
from {{cookiecutter.package_name}}.engine.storage.local import LocalStorage
from {{cookiecutter.package_name}}.engine.storage.part import open_storage

from .. import stores
from ..service import Service, make_settings

#: Bytes of a file that takes several writes in each store.
SEVERAL_PARTS = 12 << 20


def opened(root: Path) -> AbstractAsyncContextManager[BaseStorage]:
    """Open the store of a directory, or the one in a bucket that stands for it."""
    return open_storage(make_settings(storage={"url": f"file:{root}"}).storage)


def local_storage(root: Path) -> LocalStorage:
    """Return the store of a directory, which the caller closes."""
    return LocalStorage(make_settings(storage={"url": f"file:{root}"}).storage)


def fail(*_: object) -> None:
    """Fail like a disk."""
    raise OSError(errno.EIO, "Input/output error")


async def store(service: Service, data: bytes, **draft: Any) -> str:
    """Put a file into the store and return its id."""
    storage: Storage = service.app.state.storage

    async def work() -> str:
        async with storage.create(Draft(**{"filename": "f", **draft})) as writer:
            await writer.write(data)
            return (await storage.commit(writer)).id

    return await service.in_server(work())


async def bytes_of(service: Service, file_id: str) -> bytes:
    """Return the bytes of a stored file."""
    storage: Storage = service.app.state.storage

    async def work() -> bytes:
        size = (await storage.record(file_id)).size
        return b"".join([chunk async for chunk in storage.read(file_id, 0, size)])

    return await service.in_server(work())


async def files(service: Service) -> list[FileRecord]:
    """Return the records of all stored files."""
    storage: Storage = service.app.state.storage

    async def work() -> list[FileRecord]:
        return [record async for _, record in storage.records()]

    return await service.in_server(work())


async def insert(service: Service, records: Sequence[FileRecord]) -> None:
    """Add records without files to the catalogue."""
    catalogue = service.app.state.storage.catalogue
    statement = "INSERT INTO files (id, record, announced) VALUES (?, ?, 1)"
    rows = [(record.id, record.model_dump_json()) for record in records]

    def insert_all() -> None:
        catalogue._database.execute("BEGIN")
        catalogue._database.executemany(statement, rows)
        catalogue._database.execute("COMMIT")

    if stores.SERVER:
        changes = [(statement, row) for row in rows]
        await anyio.to_thread.run_sync(lambda: catalogue.database.change(*changes))
    else:
        await service.call(insert_all)


def lose(service: Service, file_id: str, kept: int = 0) -> None:
    """Remove the bytes of a stored file but for the first `kept`, unknown to the store."""
    storage = service.app.state.storage
    if stores.SERVER:
        key = storage.bucket.key("files", file_id)
        storage.bucket.put(key, storage.bucket.get(key)[:kept]) if kept else storage.bucket.delete(
            key
        )
    elif kept:
        os.truncate(storage.path(file_id), kept)
    else:
        storage.path(file_id).unlink()


def buffered(service: Service) -> int:
    """Return the bytes of uploads that the store has in memory."""
    storage = service.app.state.storage
    return int((storage.pool if stores.SERVER else storage.writers).buffered)
