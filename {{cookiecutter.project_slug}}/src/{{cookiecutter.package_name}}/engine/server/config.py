"""uvicorn's configuration, created from the settings of the service."""

import asyncio
import logging
import math
import signal
import socket
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from ..kernel.drain import SIGNALS
from ..observability import log
from ..service import Service
from ..settings import ServiceSettings
from . import capacity, uvicorn_names
from .parent import end_with_parent

#: Bytes that a message to topics may have in addition to the published event.
ENVELOPE = 16 << 10

logger = logging.getLogger("uvicorn.error")


class ServerConfig(uvicorn.Config):
    """The configuration of a server, with the settings that its connections read."""

    def __init__(self, app: Any, settings: ServiceSettings, **options: Any) -> None:
        """`app` returns the application, and `options` are those of uvicorn.

        Raises SystemExit if this version of uvicorn lacks a name that the connections use.
        """
        uvicorn_names.check()
        # uvicorn calls it when the server has started.
        usual = {"callback_notify": self._announce, **_options(settings)}
        super().__init__(app, **(usual | options))
        streaming = settings.streaming
        modules = streaming.by_module(settings).values()
        self.limits = settings.server
        #: The directory that the workers share, which the supervisor removes.
        self.directory: str | None = None
        #: The server, if it binds the port itself; `bind_socket` sets that of several processes.
        self.server: uvicorn.Server | None = None
        #: The longest send timeout of all modules, in seconds; the kernel applies the shorter ones.
        self.send_timeout = max(each.send_timeout for each in (streaming, *modules))

    @property
    def should_reload(self) -> bool:
        """Whether files are watched; uvicorn does so only for an application's import string."""
        return self.reload

    def load(self) -> None:
        """Load the application, and put the middleware for proxies around it."""
        end_with_parent(self.limits.drain_notice + self.limits.drain_timeout, self.directory)
        from .forwarded import Forwarded  # Imported after the check of the names that it uses.

        self._stop_accepting_at_once()
        super().load()
        self.loaded_app = Forwarded(self.loaded_app, self.forwarded_allow_ips)

    def bind_socket(self) -> socket.socket:
        """Return the socket that several processes share; log its address if that fails."""
        try:
            bound = super().bind_socket()
        except SystemExit:
            logger.error("Cannot listen on %s:%d", self.host, self.port)
            raise
        self.port = bound.getsockname()[1]
        return bound

    def _stop_accepting_at_once(self) -> None:
        """Close the listening sockets when a signal ends the server, not up to 0.1 s later."""
        for number in SIGNALS:
            server = getattr(signal.getsignal(number), "__self__", None)
            if isinstance(server, uvicorn.Server) and server.config is self:
                signal.signal(number, partial(_exit_and_close, server))

    async def _announce(self) -> None:
        """Report the port to the parts, once."""
        self.callback_notify = None
        if self.server is not None:
            self.port = self.server.servers[0].sockets[0].getsockname()[1]
        service: Service = self.loaded_app.app
        for part in service.parts:
            await asyncio.to_thread(part.listening, service, self.port)


def _exit_and_close(server: uvicorn.Server, number: int, frame: FrameType | None) -> None:
    server.handle_exit(number, frame)
    for listener in getattr(server, "servers", ()):  # It has none until it has started.
        listener.get_loop().call_soon_threadsafe(listener.close)


def _options(settings: ServiceSettings) -> dict[str, Any]:
    server = settings.server
    return {
        "factory": True,
        # By name, so that the module is imported after the check of the names that it uses.
        "http": f"{__package__}.http_connection:HTTPConnection",
        "host": server.host,
        "port": server.port,
        "workers": 1,  # Otherwise uvicorn reads an environment variable.
        "access_log": False,
        "proxy_headers": False,  # `Forwarded` handles them.
        "forwarded_allow_ips": server.trusted_proxies,
        "backlog": capacity.backlog(),
        "timeout_keep_alive": math.ceil(server.keep_alive),
        "timeout_graceful_shutdown": math.ceil(server.drain_timeout),
        # Long enough for the imports of a new worker; the watchdog finds workers that are stuck.
        "timeout_worker_healthcheck": 30,
        "server_header": False,
        "log_config": log.standard_library(settings.log),
        **_websocket_options(settings),
    }


def _websocket_options(settings: ServiceSettings) -> dict[str, Any]:
    streaming, realtime = settings.streaming, getattr(settings, "realtime", None)
    limits = streaming.by_module(settings).get("realtime", streaming)
    return {
        "ws": f"{__package__}.websocket:WebSocketConnection",
        # The guard of a handler allows larger messages.
        "ws_max_size": realtime.max_event_size + ENVELOPE if realtime else streaming.max_body,
        # The server sends pings, because an application cannot; browsers respond to them by
        # themselves.
        "ws_ping_interval": (realtime or streaming).heartbeat,
        "ws_ping_timeout": limits.send_timeout,
        "ws_per_message_deflate": False,  # It would double the memory of a connection.
    }
