"""Store and read files without routes, for services that have none for it."""

from typing import Any

from {{cookiecutter.package_name}}.engine.storage import Draft, FileRecord, Storage

from ..service import Service


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
