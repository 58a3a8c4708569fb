"""uvicorn's configuration with the settings of the service, which its connections read."""

import logging
import socket
from functools import cache
from typing import Any, NamedTuple

import uvicorn

from ..settings import ServerSettings, ServiceSettings

#: By name, as what names it here is imported by it.
PROTOCOL = f"{__package__}.protocol:Protocol"

logger = logging.getLogger("uvicorn.error")


class Limits(NamedTuple):
    """What the server lets a client do."""

    server: ServerSettings
    min_rate: int
    """Bytes per second."""
    send_timeout: float
    """Seconds: the longest of all modules, as the kernel keeps the shorter ones."""

    @classmethod
    def of(cls, settings: ServiceSettings) -> "Limits":
        streaming = settings.streaming
        modules = streaming.by_module(settings).values()
        longest = max(each.send_timeout for each in (streaming, *modules))
        return cls(settings.server, streaming.min_rate, longest)


class ServerConfig(uvicorn.Config):
    """The configuration of a server that runs the protocols of this package."""

    def __init__(self, app: Any, settings: ServiceSettings, **options: Any) -> None:
        super().__init__(app, **{"http": PROTOCOL, **options})
        self.limits = Limits.of(settings)

    @property
    def should_reload(self) -> bool:
        """Whether files are watched; uvicorn watches none for an application without a name."""
        return self.reload

    def bind_socket(self) -> socket.socket:
        """Return the socket that several processes share; uvicorn does not say which it lacks."""
        try:
            return super().bind_socket()
        except SystemExit:
            logger.error("Cannot listen on %s:%d", self.host, self.port)
            raise


def limits_of(config: uvicorn.Config) -> Limits:
    """Return the limits of a server; one that was started by uvicorn's own command has them from
    the environment."""
    return config.limits if isinstance(config, ServerConfig) else _of_environment()


@cache  # The environment is that of the process, and every connection asks.
def _of_environment() -> Limits:
    return Limits.of(ServiceSettings())
