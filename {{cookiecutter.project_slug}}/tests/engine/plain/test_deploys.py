"""Plain streams in processes of their own: SIGTERM with many clients, and memory."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ..peer import Peer, keep_port
from ..service import SOAK, ServiceProcess

CLIENTS = 50
MODULE = "tests.engine.plain.deployed"
SERVERS = ["one", "two", "granian"]
#: MiB that are sent to routes.
JSON, FILE = 300 if SOAK > 1 else 100, 1024 if SOAK > 1 else 200

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


@pytest.fixture(params=SERVERS)
async def process(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """The service on one process, two workers, or granian."""
    root = Path(__file__).parents[3]
    environment = {"STORAGE__URL": f"file:{tmp_path}", "SERVER__DRAIN_TIMEOUT": "2"}
    with keep_port() as kept:
        command = ["-m", MODULE]
        if request.param == "two":
            environment["WORKERS"] = "2"
        if request.param == "granian":
            if find_spec("granian") is None:
                pytest.skip("granian is not there")
            options = ["--interface=asgi", "--factory", "--host=127.0.0.1"]
            command = ["-m", "granian", *options, f"--port={kept.getsockname()[1]}"]
            command.append(f"{MODULE}:create_app")
        async with ServiceProcess(root, *command, **environment) as process:
            yield process


async def test_streams_end_when_the_service_stops(process: ServiceProcess) -> None:
    async with AsyncExitStack() as stack:

        async def follow(path: str) -> Peer:
            peer: Peer = await stack.enter_async_context(process.raw_connection())
            await peer.get(path)
            await peer.read_until(b"item")
            return peer

        events = [await follow("/sse") for _ in range(CLIENTS)]
        others = [await follow(path) for path in ("/lines", "/streaming", "/raw")]
        process.terminate()
        for peer in events:
            received = await peer.read_to_end()
            assert b"retry: " in received
            assert received.endswith(b"0\r\n\r\n")
        for peer in others:
            with pytest.raises((ConnectionResetError, AssertionError)):
                assert not (await peer.read_to_end()).endswith(b"0\r\n\r\n"), "cut"
                raise AssertionError
        assert await asyncio.wait_for(process.exit_code(), 12) == 0


@pytest.mark.parametrize("path", ["/sse", "/lines", "/streaming", "/streaming-sync"])
async def test_a_failure_half_way_never_looks_complete(process: ServiceProcess, path: str) -> None:
    async with process.raw_connection() as peer:
        await peer.get(f"/failing{path}", "Connection: close")
        received = await peer.read_to_end()
    assert b"item" in received
    assert not received.endswith(b"0\r\n\r\n")
