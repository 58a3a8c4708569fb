"""Two processes of the service on one bucket and one Redis."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest

from ...redis_server import RedisServer
from ...service import ServiceProcess


class Replicas:
    """The processes, and commands on a third machine."""

    def __init__(self, folder: Path, storage: dict[str, str]) -> None:
        self.folder = folder
        self._storage = {f"STORAGE__{name}": value for name, value in storage.items()}
        self.processes: list[ServiceProcess] = []

    @asynccontextmanager
    async def running(self, **environment: str) -> AsyncIterator[tuple[str, str]]:
        """Start two processes at once; yield their addresses."""
        async with AsyncExitStack() as stack:
            for name in ("one", "other"):
                (self.folder / name).mkdir(exist_ok=True)
                settings = self._storage | environment
                self.processes.append(ServiceProcess(self.folder / name, **settings))
            await asyncio.gather(*(stack.enter_async_context(each) for each in self.processes))
            yield self.processes[0].url, self.processes[1].url

    async def command(self, *arguments: str, **environment: str) -> str:
        """Run `serve ARGUMENTS…`, and return its output."""
        names = self._storage | environment
        settings = {f"APP_{name}": value for name, value in names.items()}

        def run() -> str:
            command = [sys.executable, "-m", "{{cookiecutter.package_name}}", *arguments]
            options: Any = {"cwd": self.folder, "env": os.environ | settings}
            ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
            assert ended.returncode == 0, ended.stderr
            return str(ended.stdout)

        return await anyio.to_thread.run_sync(run)

    def has_own_database(self) -> bool:
        """Whether a process, or a command, has keys that it does not share."""
        return any(self.folder.rglob("access.sqlite3*"))


@pytest.fixture
def replicas(tmp_path: Path, bucket_url: str, endpoint_url: str, redis: RedisServer) -> Replicas:
    storage = {"URL": bucket_url, "ENDPOINT_URL": endpoint_url, "REDIS_URL": redis.url}
    return Replicas(tmp_path, storage)


async def status(url: str, key: str, path: str = "/metrics") -> int:
    """Return the status of a request with a key."""
    async with httpx.AsyncClient(base_url=url) as client:
        return (await client.get(path, headers={"X-API-Key": key})).status_code
