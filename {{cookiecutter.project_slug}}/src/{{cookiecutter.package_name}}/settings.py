"""The settings: environment variables with the prefix `APP_`, and `.env` in development.

One section per module; `APP_UPLOAD__MAX_SIZE=10GiB` sets `settings.upload.max_size`.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .streaming import limits


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address starts with http:// or https://")
    return url.rstrip("/")


def _processes(workers: int) -> int:
    # {% if cookiecutter.use_realtime %}
    if workers > 1:
        raise ValueError("events live in the memory of one process, so there can be only 1")
    # {% endif %}
    return workers


class ServerSettings(limits.Section):
    """Where and how the service listens: `APP_SERVER__…`."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(ge=1), AfterValidator(_processes)] = 1
    public_url: Annotated[str, AfterValidator(_address)] | None = None
    """The address that clients see, such as `https://files.example.com`; else the request's own."""
    trusted_proxies: str = "127.0.0.1"
    """Addresses whose `X-Forwarded-*` headers are believed, with commas; `*` for all."""
    drain_notice: limits.Duration = 0.0
    """Seconds between the failing readiness check and the end of accepting."""
    drain_timeout: Annotated[limits.Duration, Field(gt=0)] = 10.0
    """Seconds that open requests may take to end after that."""


# {% if cookiecutter.use_upload or cookiecutter.use_download %}
class StorageSettings(limits.Section):
    """Where the files are: `APP_STORAGE__…`."""

    url: Annotated[str, Field(pattern=r"^file:.+")] = "file:./data"
    """A directory, as `file:` and a path."""
    sweep_interval: Annotated[limits.Duration, Field(gt=0)] = 60.0
    """Seconds between two sweeps for the parts of uploads that nobody works on any more."""


# {% endif %}
# {% if cookiecutter.use_upload %}
class UploadSettings(limits.Section):
    """What may be uploaded: `APP_UPLOAD__…`."""

    max_size: limits.Size = 10 << 30
    """Bytes of one file."""


# {% endif %}
# {% if cookiecutter.use_realtime %}
class RealtimeSettings(limits.Section):
    """What is kept of topics and sent on them: `APP_REALTIME__…`."""

    history_size: Annotated[int, Field(ge=1)] = 1000
    """Events that each topic keeps for clients that come back."""
    history_bytes: limits.Size = 1 << 20
    """Bytes that each topic keeps at most."""
    max_topics: Annotated[int, Field(ge=1)] = 10_000
    """Topics with history; above that the ones without subscribers are forgotten."""
    max_event_size: limits.Size = 64 << 10
    """Bytes of one event."""
    heartbeat: Annotated[limits.Duration, Field(gt=0)] = 15.0
    """Seconds of silence after which a stream shows that it is alive."""


# {% endif %}
class Settings(BaseSettings):
    """All settings of the service; read once, when the application is created."""

    model_config = SettingsConfigDict(
        env_prefix="APP_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    server: ServerSettings = ServerSettings()
    streaming: limits.StreamingSettings = limits.StreamingSettings()
    # {% if cookiecutter.use_upload or cookiecutter.use_download %}
    storage: StorageSettings = StorageSettings()
    # {% endif %}
    # {% if cookiecutter.use_upload %}
    upload: UploadSettings = UploadSettings()
    # {% endif %}
    # {% if cookiecutter.use_realtime %}
    realtime: RealtimeSettings = RealtimeSettings()
    # {% endif %}


def explain(error: ValidationError) -> Iterator[str]:
    """Yield one line per wrong setting, which names its environment variable."""
    for problem in error.errors(include_url=False, include_context=False):
        variable = "APP_" + "__".join(str(part).upper() for part in problem["loc"])
        yield f"{variable}: {problem['msg'].removeprefix('Value error, ')}"
