"""A real server on a free port, for tests; httpx and pytest are development dependencies.

    async with LiveServer(create_app(settings)) as service, service.client() as client:
        response = await client.get("/orders")

In-process clients buffer whole bodies and never leave half-way, so they miss most failures of
streams. The server runs in a thread, with its own event loop.

    def pytest_configure(config: pytest.Config) -> None:
        log_to_pytest(config)

In a `conftest.py`, this shows the log of the service only with the tests that fail.
"""

import asyncio
import logging
import os
import socket
import ssl
import threading
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any, Self, TypeVar

import httpx
import pytest
import structlog
import uvicorn

from .observability.log import as_json
from .server.config import ServerConfig
from .service import Service

__all__ = ["LiveServer", "credentials", "log_to_pytest"]

T = TypeVar("T")
#: Seconds to wait for events that should happen at once.
PATIENCE = float(os.environ.get("PATIENCE", "30"))
#: Seconds in which requests may end before they are cancelled with their server.
ENDING = 0.05
#: Shared: otherwise each client would load all certificates of the machine.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def log_to_pytest(config: pytest.Config) -> None:
    """Send the log of services in this process to that of pytest, and to `caplog`.

    Without it, lines that a server's thread writes while pytest captures no output, between the
    phases of a test, appear between those of pytest.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.root.setLevel(logging.INFO)
    between = _BetweenPhases(config)
    logging.root.addHandler(between)
    config.pluginmanager.register(between)


class _BetweenPhases(logging.Handler):
    """Adds lines that are logged between the phases of a test to its next report."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        self._plugins = config.pluginmanager
        self._lines: deque[str] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        of_pytest = self._plugins.get_plugin("logging-plugin")
        if getattr(of_pytest, "report_handler", None) not in logging.root.handlers:
            self._lines.append(self.format(record))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if lines := [self._lines.popleft() for _ in range(len(self._lines))]:
            report.sections.append((f"Captured log around {call.when}", "\n".join(lines)))
        return report


def client_of(url: str) -> httpx.AsyncClient:
    """Return a client for a server without TLS."""
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE, verify=_NO_TLS)


def credentials(app: Service, *grants: str, owner: str = "tester") -> dict[str, str]:
    """Return the header with a new key of a running application; empty without access control.

    `grants` are its roles and scopes, by default `admin`.
    """
    if authenticator := getattr(app.state, "authenticator", None):
        key = authenticator.store.create(owner, grants or ("admin",))
        return {"Authorization": f"Bearer {key}"}
    return {}


class _PromptServer(uvicorn.Server):
    """uvicorn without the pauses at its start and end, which would slow down every test."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        #: Set when the server listens, or when its start has failed.
        self.ready = threading.Event()
        self.stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := list(self.server_state.tasks):
            # Those that have responded may still close their files.
            await asyncio.wait(tasks, timeout=ENDING)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self.lifespan.shutdown()


class LiveServer:
    """A context manager that serves an application on a socket of the loopback interface."""

    def __init__(self, app: Service, **options: Any) -> None:
        """`options` are options of uvicorn, which override those of `serve`."""
        self.app = app
        self._socket = self._bind()
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        options = {"lifespan": "on", "log_config": None, "callback_notify": None} | options
        self._server = _PromptServer(ServerConfig(lambda: app, app.settings, **options))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        await asyncio.to_thread(self._server.ready.wait, PATIENCE)
        if not self._server.started:
            self._socket.close()
            raise RuntimeError("the application did not start; see its log for the reason")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        await asyncio.to_thread(self._thread.join, PATIENCE)
        self._socket.close()
        if self._thread.is_alive():
            raise RuntimeError("the server did not end")

    def client(self, *grants: str, owner: str = "tester") -> httpx.AsyncClient:
        """Return a client whose base URL is that of the application, with a key of this owner."""
        client = client_of(self.url)
        client.headers.update(credentials(self.app, *grants, owner=owner))
        return client

    async def in_server(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's event loop and return its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), PATIENCE)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def _bind(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.stop.set)

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._server.ready.set()
