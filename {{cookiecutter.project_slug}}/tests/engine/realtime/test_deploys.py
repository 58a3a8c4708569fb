"""A deployment: SIGTERM with many clients, on every supported server."""

import asyncio
import sys
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from ..peer import keep_port
from ..service import SOAK, ServiceProcess
from .subscriber import Subscriber

#: All clients; 1,000 in a soak test.
CLIENTS = 50 * SOAK

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


def command_of(server: str, port: int) -> list[str]:
    """Return the arguments of a ServiceProcess for a server."""
    if server == "granian":
        application = "{{cookiecutter.package_name}}.app:create_app"
        options = ["--interface=asgi", "--factory", "--host=127.0.0.1", f"--port={port}"]
        return ["-m", "granian", *options, application]
    return ["--reload"] if server == "reload" else []


async def say_goodbye(process: ServiceProcess) -> set[str]:
    """End a service that has clients, and return the `retry` that they receive."""
    async with AsyncExitStack() as stack:

        async def follow() -> Subscriber:
            peer = await stack.enter_async_context(process.raw_connection())
            subscriber = Subscriber(peer)
            await subscriber.open("news")
            return subscriber

        subscribers = [await follow() for _ in range(CLIENTS)]
        process.terminate()
        blocks = [await subscriber.block() for subscriber in subscribers]
        assert {block["event"] for block in blocks} == {"reconnect"}
        for subscriber in subscribers:
            assert (await subscriber.ending()).endswith(b"0\r\n\r\n")
    return {block["retry"] for block in blocks}


@pytest.mark.parametrize("server", ["uvicorn", "reload", "granian"])
@pytest.mark.slow
async def test_every_client_is_told_when_to_come_back(server: str, tmp_path: Path) -> None:
    if server == "granian" and find_spec("granian") is None:
        pytest.skip("granian is not there")
    with keep_port() as kept:
        command = command_of(server, kept.getsockname()[1])
        async with ServiceProcess(tmp_path, *command, SERVER__DRAIN_NOTICE="0.2") as process:
            retries = await say_goodbye(process)

            assert len(retries) > CLIENTS / 2  # Random, to spread the reconnects.
            assert await asyncio.wait_for(process.exit_code(), 12) == 0
