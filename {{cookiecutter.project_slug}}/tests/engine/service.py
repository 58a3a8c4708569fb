"""The service under test: the real application on the real server, at a free port.

`Service` runs the server in a thread, where a test can also inspect its exchanges; `ServiceProcess`
is for signals and kills.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

import anyio.to_thread
import httpx
from fastapi import APIRouter

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.kernel import Principal
from {{cookiecutter.package_name}}.engine.settings import ServerSettings
from {{cookiecutter.package_name}}.engine.testing import LiveServer, client_of
from {{cookiecutter.package_name}}.settings import Settings

from . import stores
from .peer import PATIENCE, connect

T = TypeVar("T")
#: Multiplies the rounds and sizes of the heavy tests: SOAK=20 runs all of them.
SOAK = int(os.environ.get("SOAK", "1"))

#: The arguments of `serve import` before its paths: with access control, a file needs an owner.
OWNER = ["--owner", "alice"] if "access" in Settings.model_fields else []

#: The Host of raw requests (tests of Host use real names), and the address of all clients, which
#: report another one in `X-Forwarded-For`.
KNOWN: dict[str, Any] = {
    name: value
    for name, value in {"allowed_hosts": "test,x,h,a", "trusted_proxies": "127.0.0.1"}.items()
    if name in ServerSettings.model_fields
}


#: The files of services whose tests choose no folder, until the end of the process.
_folder = TemporaryDirectory(ignore_cleanup_errors=True)
_FILES = {
    "storage": {"url": f"file:{_folder.name}/data"},
    "access": {"database": f"{_folder.name}/access.sqlite3"},
}


def make_settings(**sections: Any) -> Settings:
    """Return settings from sections, without a `.env` file, and without files in this folder."""
    make: Any = Settings
    for name, files in _FILES.items():
        if name in Settings.model_fields:
            sections[name] = files | sections.get(name, {})
    if "storage" in sections and stores.SERVER:
        sections["storage"]["url"] = stores.moved(sections["storage"]["url"])
    sections["server"] = KNOWN | sections.get("server", {})
    settings: Settings = make(_env_file=None, **sections)
    return settings


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of an OpenAPI document: itself, or the component that it refers to."""
    if "$ref" not in schema:
        return schema
    component: dict[str, Any] = document["components"]["schemas"][schema["$ref"].split("/")[-1]]
    return component


def identify(exchange: Any) -> None:
    """Take the principal from a header, in place of authentication; for `kernel.on_open`."""
    name = dict(exchange.scope["headers"]).get(b"x-user")
    if name:
        exchange.scope.setdefault("state", {})["principal"] = Principal(name.decode())


class Service(LiveServer):
    """The application on a socket; a test can also inspect its exchanges."""

    def __init__(self, *routers: APIRouter, http: Any = None, **sections: dict[str, Any]) -> None:
        """`http` names one of uvicorn's own protocols, in place of the engine's."""
        app = create_app(make_settings(**sections))
        for router in routers:
            app.include_router(router)
        self._ended: list[Any] = []
        self._news = threading.Condition()
        self._observed = app.state.kernel.observe
        app.state.kernel.observe = self._observe
        super().__init__(app, **({"http": http} if http else {}))

    def raw_connection(self, receive_buffer: int | None = None) -> Any:
        return connect(self.port, receive_buffer)

    async def outcome_of(self, label: str) -> str:
        """Wait for the end of an exchange with this method and route, and return its outcome."""
        return str((await self.ended(label)).outcome)

    async def ended(self, label: str) -> Any:
        """Wait for the end of an exchange (`METHOD /route`), and return it, each only once."""
        return await anyio.to_thread.run_sync(self._wait_for, label)

    async def reached(self, bound: str) -> float:
        """Return how often a bound was reached, from the metrics."""
        sample = 'bounds_reached_total{bound="' + bound + '"} '
        async with self.client() as client:
            lines = (await client.get("/metrics")).text.splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(sample)), 0.0)

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function in the server's event loop."""

        async def work() -> T:
            return function()

        return await self.in_server(work())

    def _observe(self, exchange: Any) -> None:
        self._observed(exchange)
        with self._news:
            self._ended.append(exchange)
            self._news.notify_all()

    def _wait_for(self, label: str) -> Any:
        def find() -> Any:
            return next((e for e in self._ended if f"{e.method} {e.route}" == label), None)

        with self._news:
            found = self._news.wait_for(find, PATIENCE)
            seen = [f"{e.method} {e.route}" for e in self._ended]
            assert found is not None, f"no {label!r} has ended; {seen}"
            self._ended.remove(found)
        return found


class ServiceProcess:
    """The service in its own process, which can be killed."""

    def __init__(self, directory: Path, *command: str, **environment: str) -> None:
        """`environment` has settings without their prefix: `SERVER__DRAIN_NOTICE="1 s"`.

        The command is `serve`, with these arguments, or another one that logs where it listens.
        """
        serve = [] if command[:1] == ("-m",) else ["-m", "{{cookiecutter.package_name}}"]
        self._command = [sys.executable, *serve, *command]
        known = {f"SERVER__{name.upper()}": value for name, value in KNOWN.items()}
        if stores.SERVER:
            url = environment.get("STORAGE__URL", "file:data")
            environment["STORAGE__URL"] = stores.moved(url, directory)
        settings = {f"APP_{name}": value for name, value in (known | environment).items()}
        self._environment = {**os.environ, "APP_SERVER__PORT": "0", **settings}
        self._directory = directory
        self._started = threading.Event()
        self.port = 0
        self.log: list[str] = []

    async def __aenter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._log = threading.Thread(target=self._read_log, daemon=True)
        self._log.start()
        await anyio.to_thread.run_sync(self._started.wait, max(PATIENCE, 10))
        if not self.port:
            self.kill()
            await self.exit_code()
            raise AssertionError("the service did not start:\n" + "".join(self.log))
        self.url = f"http://127.0.0.1:{self.port}"
        await self._listens()
        return self

    async def _listens(self) -> None:
        """Wait until the server listens; it logs its address before."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with self.raw_connection():
                        return
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self.exit_code()
        sys.stderr.writelines(self.log)  # pytest shows it with a failure.

    def client(self) -> httpx.AsyncClient:
        return client_of(self.url)

    def raw_connection(self, receive_buffer: int | None = None) -> Any:
        return connect(self.port, receive_buffer)

    def peak_memory(self) -> int:
        """Return the largest resident size so far, in bytes; Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def is_logging(self) -> bool:
        """Return whether any process of the service is left."""
        return self._log.is_alive()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()

    async def exit_code(self) -> int:
        code = await anyio.to_thread.run_sync(self.process.wait, PATIENCE * 2)
        self._log.join(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def _read_log(self) -> None:
        # To the end: the service would wait for a full pipe.
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if match := re.search(r"(?:on|at:) http://127\.0\.0\.1:(\d+)", line):
                self.port = int(match[1])
                self._started.set()
        self._started.set()
