"""Services on a real Redis, and a proxy in front of it."""

import asyncio
import json
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import anyio
import pytest

from {{cookiecutter.package_name}}.engine.realtime.backends import (
    redis as backend,
    redis_pool,
)

from ..peer import PATIENCE
from ..redis_server import RedisServer
from ..service import Service, ServiceProcess
from .subscriber import Subscriber


@pytest.fixture
def sections(
    sections: dict[str, dict[str, Any]], stopped_redis: RedisServer
) -> dict[str, dict[str, Any]]:
    """The default settings, with Redis."""
    return {**sections, "realtime": {"broker_url": stopped_redis.url}}


@pytest.fixture
async def two(serve: Callable[..., Any], redis: RedisServer) -> tuple[Service, Service]:
    """Two services on one Redis."""
    return await serve(), await serve()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals of probes, checks and reconnects, and the timeout of commands."""
    for name in ("PROBE_SECONDS", "CHECK_SECONDS"):
        monkeypatch.setattr(backend, name, 0.1)
    for module in (backend, redis_pool):
        monkeypatch.setattr(module, "COMMAND_SECONDS", 0.5)
    monkeypatch.setattr(backend, "RECONNECT_SECONDS", (0.01, 0.02))


class Proxy:
    """A proxy of Redis that can lose replies to publications and hold up subscriptions."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        #: The number of replies to publications that will be lost.
        self.losses = 0
        #: Connections up to this number are dropped silently.
        self.dropped = self.connections = 0
        self.has_subscription, self.lets_through = asyncio.Event(), asyncio.Event()
        self.lets_through.set()
        self._links: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.append(link)
        async with closing(writer):
            there, back = await asyncio.open_connection("127.0.0.1", self.redis.port)
            async with closing(back), asyncio.TaskGroup() as group:
                self.connections += 1
                is_lost = asyncio.Event()
                group.create_task(self._answer(there, writer, is_lost))
                await self._ask(self.connections, reader, back, is_lost)

    async def _ask(
        self, number: int, reader: StreamReader, writer: StreamWriter, is_lost: asyncio.Event
    ) -> None:
        while data := await reader.read(1 << 16):
            if number <= self.dropped:
                continue
            if self.losses and b"EVALSHA" in data:
                self.losses -= 1
                is_lost.set()
            if re.search(rb"\nSUBSCRIBE\r\n\S+\r\n\S+:\w", data):  # To a topic.
                self.has_subscription.set()
                await self.lets_through.wait()
            writer.write(data)
        writer.close()

    async def _answer(
        self, reader: StreamReader, writer: StreamWriter, is_lost: asyncio.Event
    ) -> None:
        while (data := await reader.read(1 << 16)) and not is_lost.is_set():
            writer.write(data)
        writer.close()


@asynccontextmanager
async def closing(writer: StreamWriter) -> AsyncIterator[None]:
    """Close the connection: one that is left open would warn in a later test."""
    try:
        yield
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def following(
    service: Service | ServiceProcess, topics: str, *headers: str
) -> AsyncIterator[Subscriber]:
    """Follow topics as an event stream."""
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open(topics, *headers)
        yield subscriber


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds that has no event."""
    with anyio.fail_after(PATIENCE):
        while not await holds():
            await anyio.sleep(0.01)


async def texts(subscriber: Subscriber, count: int) -> list[str]:
    """Return the data of the next events."""
    return [(await subscriber.block())["data"] for _ in range(count)]


async def reset_of(subscriber: Subscriber) -> str:
    """Return the reason of the reset that the subscriber receives next."""
    block = await subscriber.block()
    assert block["event"] == "reset"
    return str(json.loads(block["data"])["reason"])


async def until_ready(service: Service, status: int = 200) -> None:
    """Wait until the readiness check has this status."""
    async with service.client() as client:

        async def is_so() -> bool:
            return (await client.get("/health/ready")).status_code == status

        await until(is_so)
