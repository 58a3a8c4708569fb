"""The supported servers, and the ways in which the application sends files on them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.server import sendfile
from {{cookiecutter.package_name}}.engine.storage import reading

from .. import stores
from ..peer import PATIENCE, keep_port
from ..service import Service

#: The preferred way on each server, and the fallbacks; files of a bucket have one way.
WAYS = [
    "uvicorn zero-copy",
    "uvicorn page-cache",
    "uvicorn aiofiles",
    "h11 page-cache",
    "h11 aiofiles",
    "granian page-cache",
    "granian aiofiles",
]
if stores.SERVER:
    WAYS = ["uvicorn s3", "h11 s3", "granian s3"]


@asynccontextmanager
async def serving(way: str, **sections: dict[str, Any]) -> AsyncIterator[Service]:
    """Run the service on a server with one way of sending files."""
    server, _, sending = way.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        if sending == "zero-copy" and not sendfile.ZERO_COPY:
            pytest.skip("zero-copy needs Linux")
        if sending == "page-cache" and not reading.NOWAIT:
            pytest.skip("needs preadv with RWF_NOWAIT")
        if sending != "zero-copy":
            patch.setattr(sendfile, "ZERO_COPY", False)
        if sending == "aiofiles":
            patch.setattr(reading, "NOWAIT", 0)
        async with _service(server, sections) as service:
            yield service


def _service(server: str, sections: dict[str, dict[str, Any]]) -> Service:
    match server:
        case "uvicorn":
            return Service(**sections)
        case "h11":
            return Service(http="h11", **sections)
        case _:
            return GranianService(**sections)


class GranianService(Service):
    """The service on granian, which opens its own socket."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        if not hasattr(socket, "SO_REUSEPORT"):
            pytest.skip("needs SO_REUSEPORT")
        self._embed = pytest.importorskip("granian.server.embed", reason="needs granian")
        super().__init__(**sections)

    async def __aenter__(self) -> Self:
        self._thread.start()
        async with asyncio.timeout(PATIENCE), self.client() as client:
            while True:
                try:
                    await client.get("/health/live")
                except httpx.ConnectError:  # It does not report when it listens.
                    await asyncio.sleep(0.01)
                else:
                    return self

    def _bind(self) -> socket.socket:
        return keep_port()

    async def _serve(self) -> None:
        interface = self._embed.Interfaces.ASGI
        self._granian = self._embed.Server(
            self.app, port=self.port, interface=interface, log_enabled=False
        )
        await self._granian.serve()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._granian.stop)
