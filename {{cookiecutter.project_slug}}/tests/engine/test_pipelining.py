"""Pipelined requests: responses keep the order, and few requests wait in memory.

Source: RFC 9112, section 9.3.2.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import APIRouter

from {{cookiecutter.package_name}}.engine.kernel.kernel import BOUNDS

from .peer import PATIENCE, Peer
from .service import Service


class Gate:
    """A route that waits until it is opened, and one that responds at once."""

    def __init__(self) -> None:
        self.begun = 0
        self.opened = asyncio.Event()
        self.router = APIRouter()

        @self.router.get("/gate")
        async def gate() -> str:
            self.begun += 1
            await self.opened.wait()
            return "open"

        @self.router.get("/number/{number}")
        async def echo(number: int) -> int:
            return number


def request(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


async def waiting(service: Service) -> int:
    """Return the number of requests that wait after the server has read all bytes."""
    connections = service._server.server_state.connections

    async def count() -> int:
        for _ in range(100):
            await asyncio.sleep(0.001)
        return sum(len(getattr(each, "pipeline", ())) for each in connections)

    return await service.in_server(count())


async def begun(service: Service, gate: Gate, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await service.call(lambda: gate.begun) < number:
            pass


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.mark.bound("6.1")
async def test_few_requests_of_a_connection_wait_and_all_are_answered_in_order(
    serve: Any, gate: Gate
) -> None:
    service: Service = await serve(gate.router)
    before, number = BOUNDS["server.max_pipelined"], 400
    async with service.raw_connection() as peer:
        await peer.send(request("/gate"))
        await begun(service, gate, 1)
        await peer.send(b"".join(request(f"/number/{each}") for each in range(number)))
        await peer.send(request("/number/-1", "Connection: close"))
        assert 1 <= await waiting(service) <= 20
        await service.call(gate.opened.set)
        bodies = (await peer.read_to_end()).split(b"\r\n\r\n")[2:]

    numbers = [int(each.split(b"HTTP/")[0]) for each in bodies]
    assert numbers == [*range(number), -1]
    assert BOUNDS["server.max_pipelined"] > before


@pytest.mark.bound("6.2")
async def test_the_requests_that_wait_on_all_connections_are_bounded(
    serve: Any, gate: Gate
) -> None:
    service: Service = await serve(gate.router)
    connections = 90
    async with AsyncExitStack() as stack:
        for _ in range(connections):
            peer: Peer = await stack.enter_async_context(service.raw_connection())
            await peer.send(request("/gate") + request("/number/1") * 40)
        await begun(service, gate, connections)
        assert connections <= await waiting(service) <= 1000 + connections
        await service.call(gate.opened.set)
    assert await waiting(service) == 0


async def test_a_client_that_resets_is_noticed_while_its_requests_wait(
    serve: Any, gate: Gate
) -> None:
    service: Service = await serve(gate.router)
    async with service.raw_connection() as peer:
        await peer.send(request("/gate"))
        await begun(service, gate, 1)
        await peer.send(request("/number/1") * 400)
        await waiting(service)
        peer.reset()
        async with asyncio.timeout(PATIENCE):
            while service._server.server_state.connections:
                await asyncio.sleep(0.01)
    await service.call(gate.opened.set)
