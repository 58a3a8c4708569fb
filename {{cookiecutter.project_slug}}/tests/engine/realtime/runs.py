"""A run whose events the test chooses, and a client that follows runs."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import anyio.to_thread

from {{cookiecutter.package_name}}.engine.realtime import RunRouter

from ..peer import PATIENCE
from ..service import Service
from .subscriber import Subscriber


class Script:
    """The run `script`, which yields the items of `say`; it raises exceptions, and None ends it."""

    def __init__(self) -> None:
        self.router = RunRouter(prefix="/runs")
        self._words: asyncio.Queue[Any] = asyncio.Queue()
        self._closed = threading.Event()
        self.cleans_up_until: threading.Event | None = None

        @self.router.run("/script")
        async def script() -> AsyncGenerator[Any]:
            try:
                while (word := await self._words.get()) is not None:
                    if isinstance(word, Exception):
                        raise word
                    yield word
            finally:
                for _ in range(100):
                    await asyncio.sleep(0)  # A cleanup that waits is not cancelled.
                while self.cleans_up_until is not None and not self.cleans_up_until.is_set():
                    await asyncio.sleep(0.01)
                self._closed.set()

    async def say(self, service: Service, *words: Any) -> None:
        def put() -> None:
            for word in words:
                self._words.put_nowait(word)

        await service.call(put)

    async def closed(self) -> bool:
        """Wait until the generator has finished its cleanup."""
        return await anyio.to_thread.run_sync(self._closed.wait, PATIENCE)


class Follower(Subscriber):
    """A client of a run on a raw connection."""

    async def follow(self, run_id: str, *headers: str, query: str = "") -> bytes:
        """Request the events and return the headers."""
        await self._peer.get(f"/runs/{run_id}/events{query}", *headers)
        return await self._peer.read_head()

    async def rest(self) -> list[dict[str, str]]:
        """Return the events up to `end`, after which the response must end cleanly."""
        blocks = [await self.block()]
        while blocks[-1].get("event") != "end":
            blocks.append(await self.block())
        assert await self._peer.read_until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"
        return blocks


async def start(service: Any, name: str = "script", **parameters: Any) -> str:
    """Start a run and return its id."""
    async with service.client() as client:
        response = await client.post(f"/runs/{name}", json=parameters)
        assert response.status_code == 201
        return str(response.json()["id"])


async def follow(service: Any, run_id: str, query: str = "") -> list[dict[str, str]]:
    """Follow a run to its end and return its events."""
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id, query=query)
        return await follower.rest()
