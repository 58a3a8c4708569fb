"""The settings that every service has, and the base of its `Settings`.

A module's section stands beside it, in its `settings.py`; that of the service composes them.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .kernel.limits import Duration, Section, Size, StreamingSettings

__all__ = ["Duration", "Section", "ServiceSettings", "Size"]


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address starts with http:// or https://")
    return url.rstrip("/")


#: Names and addresses with commas; of other letters, their form in ASCII.
HOSTS = r"^[A-Za-z0-9._*:\[\], -]*$"


class ServerSettings(Section):
    """Where and how the service listens: `APP_SERVER__…`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1)] = 1
    public_url: Annotated[str, AfterValidator(_address)] | None = None
    """The address that clients see, such as `https://files.example.com`; else the request's own."""
    allowed_hosts: Annotated[str, Field(pattern=HOSTS)] = ""
    """Hosts that the service is asked for by, with commas: names, `*.example.com`, `*` for all."""
    trusted_proxies: str = "127.0.0.1"
    """Addresses whose `X-Forwarded-*` and `Forwarded` are believed, with commas; `*` for all."""
    docs: bool = True
    """Whether there are `/docs`, `/redoc` and the OpenAPI documents, which the demo page reads."""
    header_timeout: Annotated[Duration, Field(gt=0)] = 20.0
    """Seconds that the head of a request may take."""
    max_header_size: Size = 64 << 10
    """Bytes that it may have."""
    max_header_fields: Annotated[int, Field(gt=0)] = 256
    """Header lines that it may have."""
    max_pipelined: Annotated[int, Field(gt=0)] = 16
    """Requests of one connection that may wait for the one before; above that it is not read."""
    max_waiting: Annotated[int, Field(gt=0)] = 1000
    """Requests that may wait so on all connections of a process, beside the first of each."""
    max_unparsed: Size = 256 << 20
    """Bytes that a process may hold before they are parsed; connections that add more are reset."""
    max_control_frames: Annotated[float, Field(gt=0)] = 100.0
    """Pings and pongs per second of one WebSocket, or ten times that at once."""
    keep_alive: Annotated[Duration, Field(gt=0)] = 75.0
    """Seconds for which a connection stays open between two requests: longer than a balancer's."""
    max_connections: Annotated[int, Field(gt=0)] | None = None
    """Connections of one process at once; else as many as its limit of open files allows."""
    stuck_after: Annotated[Duration, Field(gt=0)] = 10.0
    """Seconds of an event loop that does not answer, after which the process is not live."""
    drain_notice: Duration = 0.0
    """Seconds between the failing readiness check and the end of accepting."""
    drain_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Seconds that open requests may take to end after that."""


class CorsSettings(Section):
    """Which pages may use the service from a browser: `APP_CORS__…`."""

    origins: str = ""
    """Origins such as `https://app.example.com`, with commas; `*` for all."""


class LogSettings(Section):
    """What the service says of itself: `APP_LOG__…`."""

    format: Literal["auto", "json", "pretty"] = "auto"
    """`auto` is pretty on a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is said."""


class ServiceSettings(BaseSettings):
    """What every service has: environment variables with the prefix `APP_`, and `.env`.

    One section per module; `APP_UPLOAD__MAX_SIZE=10GiB` sets `settings.upload.max_size`.
    """

    model_config = SettingsConfigDict(
        env_prefix="APP_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    server: ServerSettings = ServerSettings()
    cors: CorsSettings = CorsSettings()
    log: LogSettings = LogSettings()
    streaming: StreamingSettings = StreamingSettings()

    def model_post_init(self, context: object) -> None:
        """Refuse what does not go together."""
        realtime = getattr(self, "realtime", None)
        if self.server.workers > 1 and realtime and realtime.broker_url == "memory:":
            raise ValueError(
                "APP_SERVER__WORKERS: events live in the memory of one process, so there can be "
                "only 1"
            )


def explain(error: ValidationError) -> Iterator[str]:
    """Yield one line per wrong setting, which names its environment variable."""
    for problem in error.errors(include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        variable = "APP_" + "__".join(str(part).upper() for part in problem["loc"])
        yield f"{variable}: {message}" if problem["loc"] else message
