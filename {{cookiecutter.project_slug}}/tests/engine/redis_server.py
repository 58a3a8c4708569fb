"""A real Redis on a free port and a directory of its own, which can be stopped and restarted."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import anyio
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from .peer import PATIENCE, keep_port
from .signals import CONTINUE, STOP

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """A Redis that saves its data in `directory`; a restart does not change `url`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.dump = directory / "dump.rdb"
        self._kept = keep_port()
        self.port = self._kept.getsockname()[1]
        if sys.platform == "darwin":
            self._kept.close()  # On macOS both sockets need the option to share a port.
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    async def start(self) -> None:
        """Start it with the data of its directory, and wait until it is ready."""
        assert PROGRAM is not None
        options = f"--port {self.port} --bind 127.0.0.1 --repl-diskless-sync-delay 0 --save".split()
        self._process = subprocess.Popen(
            [PROGRAM, *options, "", "--dir", str(self.dump.parent)], stdout=subprocess.DEVNULL
        )
        with anyio.fail_after(PATIENCE):
            async with Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.01), -1)) as client:
                await client.ping()
                assert (await client.info("server"))["process_id"] == self._process.pid

    async def run(self, *command: str | int) -> Any:
        """Run one command and return its reply."""
        client: Any
        async with Redis.from_url(self.url) as client:
            return await client.execute_command(*command)

    async def stop(self) -> None:
        """Save all data and stop."""
        async with Redis.from_url(self.url) as client:
            await client.shutdown(save=True)
        self._wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._wait()

    def end(self) -> None:
        """Kill it and release its port."""
        self.kill()
        self._kept.close()

    def freeze(self) -> None:
        """Stop replying, without closing connections."""
        assert self._process is not None
        self._process.send_signal(STOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(CONTINUE)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE)
        self._process = None


@pytest.fixture
def stopped_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that was not started."""
    if PROGRAM is None:
        pytest.skip("there is no redis-server")
    server = RedisServer(tmp_path / "redis")
    yield server
    server.end()


@pytest.fixture
async def redis(stopped_redis: RedisServer) -> RedisServer:
    """A running Redis."""
    await stopped_redis.start()
    return stopped_redis
