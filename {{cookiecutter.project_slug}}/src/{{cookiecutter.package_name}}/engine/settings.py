"""The settings of every service, and the base class of its `Settings`.

The `settings.py` of each module defines its section; the `settings.py` of the service combines
them.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .kernel.limits import Duration, Section, Size, StreamingSettings

__all__ = ["Duration", "Section", "ServiceSettings", "Size"]


def _base_url(url: str) -> str:
    is_url = re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url)
    if not is_url or urlsplit(url).port == 0:  # Raises ValueError for other bad ports.
        raise ValueError("a base URL is like https://files.example.com or http://10.0.0.5:8000/at")
    return url.rstrip("/")


def _origins(origins: str) -> str:
    for each in map(str.strip, origins.split(",")):
        if each not in ("", "*", "null") and not re.fullmatch(r"[\w+.-]+://[^\s/?#@]+/?", each):
            raise ValueError(f"{each!r} is not an origin such as https://app.example.com")
    return origins


def _proxies(addresses: str) -> str:
    addresses = addresses.strip()
    if addresses != "*":
        for each in filter(None, map(str.strip, addresses.split(","))):
            ip_network(each)  # The server would silently ignore anything else.
    return addresses


#: Names and addresses, separated by commas; international names in their ASCII form.
HOSTS = r"^[A-Za-z0-9._*:\[\], -]*$"


class ServerSettings(Section):
    """The address of the server and its limits: `APP_SERVER__…`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1)] = 1
    public_url: Annotated[str, AfterValidator(_base_url)] | None = None
    """The base URL for clients, such as `https://files.example.com`; by default the request's."""
    allowed_hosts: Annotated[str, Field(pattern=HOSTS)] = ""
    """Allowed names in Host, separated by commas; `*.example.com` for subdomains, `*` for all."""
    trusted_proxies: Annotated[str, AfterValidator(_proxies)] = ""
    """Comma-separated addresses of proxies that may set `X-Forwarded-*` and `Forwarded`; or `*`."""
    allow_anonymous: bool = False
    """Whether a service without access control may serve other machines."""
    umask: Annotated[str, Field(pattern="^0?0[0-7]{2}$")] = "077"
    """Permissions that new files and directories do not get, in octal: `027` lets a group read."""
    docs: bool = True
    """Whether `/docs`, `/redoc` and the OpenAPI documents are served; the demo page reads these."""
    header_timeout: Annotated[Duration, Field(gt=0)] = 20.0
    """Seconds in which the headers of a request must arrive."""
    max_header_size: Size = 64 << 10
    """Bytes of the headers of a request."""
    max_header_fields: Annotated[int, Field(gt=0)] = 100
    """Header fields of a request, and trailers after its body."""
    max_pipelined: Annotated[int, Field(gt=0)] = 16
    """Requests of one connection that may wait for an earlier one, before reading is paused."""
    max_waiting: Annotated[int, Field(gt=0)] = 1000
    """Pipelined requests that wait on all connections of a process, without the first of each."""
    max_unparsed: Size = 256 << 20
    """Unparsed bytes in a process; connections that add more are reset."""
    max_control_frames: Annotated[float, Field(gt=0)] = 100.0
    """Pings and pongs per second of one WebSocket, with bursts of ten times as many."""
    keep_alive: Annotated[Duration, Field(gt=0)] = 75.0
    """Seconds for which an idle connection stays open; longer than in the load balancer."""
    max_connections: Annotated[int, Field(gt=0)] | None = None
    """Concurrent connections of one process; the default depends on its limit of open files."""
    stuck_after: Annotated[Duration, Field(gt=0)] = 10.0
    """Seconds for which the event loop may be blocked until the process is not live."""
    drain_notice: Duration = 0.0
    """Seconds for which a draining server still accepts connections while it is not ready."""
    drain_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Seconds after the notice in which open requests may end."""


class CorsSettings(Section):
    """The pages that may use the service from a browser: `APP_CORS__…`."""

    origins: Annotated[str, AfterValidator(_origins)] = ""
    """Origins such as `https://app.example.com`, separated by commas; `*` for all."""


class LogSettings(Section):
    """The log: `APP_LOG__…`."""

    format: Literal["auto", "json", "pretty"] = "auto"
    """`auto` is pretty on a terminal, and JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""


class ServiceSettings(BaseSettings):
    """The settings of every service: environment variables with the prefix `APP_`, and `.env`.

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
        """Refuse several workers with a broker in memory."""
        realtime = getattr(self, "realtime", None)
        if self.server.workers > 1 and realtime and realtime.broker_url == "memory:":
            raise ValueError(
                "APP_SERVER__WORKERS: the memory broker belongs to one process, so this must be 1"
            )


def explain(error: ValidationError) -> Iterator[str]:
    """Yield one line per invalid setting, which names its environment variable."""
    for problem in error.errors(include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        variable = "APP_" + "__".join(str(part).upper() for part in problem["loc"])
        yield f"{variable}: {message}" if problem["loc"] else message
