"""A real server on a free port, for tests; of the development group, as httpx and pytest are.

    async with LiveServer(create_app(settings)) as service, service.client() as client:
        response = await client.get("/orders")

In-process clients buffer whole bodies and never leave half-way, so they show nothing of what can go
wrong with a stream. The server runs in a thread, with an event loop of its own.

    def pytest_configure(config: pytest.Config) -> None:
        log_to_pytest(config)

in a `conftest.py` shows the log of the service with a failed test, and nowhere else.
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
from .server.cli import server_config
from .server.protocol import Protocol
from .service import Service

__all__ = ["LiveServer", "log_to_pytest"]

T = TypeVar("T")
#: Seconds that anything may take that should happen at once.
PATIENCE = float(os.environ.get("PATIENCE", "30"))
#: Made once: a client would load all certificates of the machine, for a server without TLS.
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
    """Adds what is logged between the phases of a test to its next report."""

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


class _PromptServer(uvicorn.Server):
    """uvicorn without the pauses of its start and end, which a hundred tests would add up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        #: Set when the server listens, and when it does not because the start failed.
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
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self.lifespan.shutdown()


class LiveServer:
    """An application on a socket of the loopback interface, while the context is open."""

    def __init__(self, app: Service, http: Any = Protocol) -> None:
        """`http` is the protocol class of uvicorn, or how it names one of its own."""
        self.app = app
        self._socket = self._bind()
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = server_config(lambda: app, app.settings, http=http, lifespan="on", log_config=None)
        self._server = _PromptServer(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        await asyncio.to_thread(self._server.ready.wait, PATIENCE)
        if not self._server.started:
            self._socket.close()
            raise RuntimeError("the application did not start; its log has the reason")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        await asyncio.to_thread(self._thread.join, PATIENCE)
        self._socket.close()
        if self._thread.is_alive():
            raise RuntimeError("the server did not end")

    def client(self) -> httpx.AsyncClient:
        """Return a client whose paths are those of the application."""
        return client_of(self.url)

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

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._server.ready.set()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.stop.set)
