"""The settings: environment variables with the prefix `APP_`, and `.env` in development.

One section per module; `APP_UPLOAD__MAX_SIZE=10GiB` sets `settings.upload.max_size`.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .streaming import limits


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address starts with http:// or https://")
    return url.rstrip("/")


#: Names and addresses with commas; of other letters, their form in ASCII.
HOSTS = r"^[A-Za-z0-9._*:\[\], -]*$"


class ServerSettings(limits.Section):
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
    header_timeout: Annotated[limits.Duration, Field(gt=0)] = 20.0
    """Seconds that the head of a request may take."""
    max_header_size: limits.Size = 64 << 10
    """Bytes that it may have."""
    max_header_fields: Annotated[int, Field(gt=0)] = 256
    """Header lines that it may have."""
    max_pipelined: Annotated[int, Field(gt=0)] = 16
    """Requests of one connection that may wait for the one before; above that it is not read."""
    max_waiting: Annotated[int, Field(gt=0)] = 1000
    """Requests that may wait so on all connections of a process, beside the first of each."""
    max_unparsed: limits.Size = 256 << 20
    """Bytes that a process may hold before they are parsed; connections that add more are reset."""
    max_control_frames: Annotated[float, Field(gt=0)] = 100.0
    """Pings and pongs per second of one WebSocket, or ten times that at once."""
    keep_alive: Annotated[limits.Duration, Field(gt=0)] = 75.0
    """Seconds for which a connection stays open between two requests: longer than a balancer's."""
    max_connections: Annotated[int, Field(gt=0)] | None = None
    """Connections of one process at once; else as many as its limit of open files allows."""
    stuck_after: Annotated[limits.Duration, Field(gt=0)] = 10.0
    """Seconds of an event loop that does not answer, after which the process is not live."""
    drain_notice: limits.Duration = 0.0
    """Seconds between the failing readiness check and the end of accepting."""
    drain_timeout: Annotated[limits.Duration, Field(gt=0)] = 10.0
    """Seconds that open requests may take to end after that."""


class CorsSettings(limits.Section):
    """Which pages may use the service from a browser: `APP_CORS__…`."""

    origins: str = ""
    """Origins such as `https://app.example.com`, with commas; `*` for all."""


class LogSettings(limits.Section):
    """What the service says of itself: `APP_LOG__…`."""

    format: Literal["auto", "json", "pretty"] = "auto"
    """`auto` is pretty on a terminal, JSON elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is said."""


# {% if cookiecutter.use_upload or cookiecutter.use_download %}
class StorageSettings(limits.Section):
    """Where the files are: `APP_STORAGE__…`."""

    url: Annotated[str, Field(pattern=r"^file:.+")] = "file:./data"
    """A directory, as `file:` and a path."""
    sweep_interval: Annotated[limits.Duration, Field(gt=0)] = 60.0
    """Seconds between two sweeps for the parts of uploads that nobody works on any more."""
    quota: limits.Size | None = None
    """Bytes that all files of one owner may have together."""
    keep_free: limits.Size = 64 << 20
    """Bytes of the disk that no upload may take."""
    max_listed: Annotated[int, Field(gt=0)] = 5000
    """Files in one response of a listing; the rest is on further pages."""
    max_listed_bytes: Annotated[limits.Size, Field(gt=0)] = 2 << 20
    """Bytes of one, after which a page ends too: the metadata of files can be long."""


# {% endif %}
# {% if cookiecutter.use_upload %}
class UploadSettings(limits.ModuleLimits):
    """What may be uploaded, and limits of its own: `APP_UPLOAD__…`."""

    max_size: limits.Size = 10 << 30
    """Bytes of one file."""
    max_files: Annotated[int, Field(ge=1)] = 50
    """Files of one form."""
    max_fields: Annotated[int, Field(ge=0)] = 100
    """Other fields of one form; its parts are as many as both, those without a name included."""
    max_field_bytes: limits.Size = 64 << 10
    """Bytes of the names and values of all fields of one form."""
    allowed_types: str = ""
    """Media types that may be stored, with commas, such as `image/*,application/pdf`; else all."""
    # {% if cookiecutter.resumable_uploads %}
    expire_after: Annotated[limits.Duration, Field(gt=0)] = 86400.0
    """Seconds for which an upload can be resumed after its last byte."""
    max_incomplete: Annotated[int, Field(ge=1)] = 10_000
    """Uploads that wait for the rest of their bytes."""
    max_incomplete_per_owner: Annotated[int, Field(ge=1)] | None = None
    """Those of one owner."""
    max_parts: Annotated[int, Field(ge=1)] = 100
    """Parts of one file that is put together."""
    max_reuse: Annotated[int, Field(ge=1)] = 10
    """Files that one part may be put into."""
    max_concatenations: Annotated[int, Field(ge=1)] = 16
    """Files of this process that are put together at once: one is copied, the others wait."""
    interim_responses: bool = False
    """Whether clients that ask for it get 104 responses; not every proxy understands them."""
    # {% endif %}


# {% endif %}
# {% if cookiecutter.use_download %}
class DownloadSettings(limits.ModuleLimits):
    """How files are sent, and limits of its own: `APP_DOWNLOAD__…`."""

    offload: Annotated[str, Field(pattern=r"^(x-accel-redirect)?$")] = ""
    """Who sends the bytes of files: the service itself, or the nginx in front of it."""
    max_age: limits.Duration = 0.0
    """Seconds for which a client may keep a file without asking again; it may be deleted since."""
    max_transform: limits.Size = 10 << 30
    """Bytes of one body that is transformed."""


# {% endif %}
# {% if cookiecutter.use_realtime %}
# {% if cookiecutter.broker == "redis" %}
BROKERS = r"^(memory:$|rediss?://|unix://)"
# {% else %}
BROKERS = r"^memory:$"
# {% endif %}
#: `topic=policy`, with commas.
POLICIES = r"^([A-Za-z0-9_.-]+(\.\*)?=(disconnect|latest|coalesce)(,|$))*$"


class RealtimeSettings(limits.ModuleLimits):
    """What is kept of topics and sent on them, and limits of its own: `APP_REALTIME__…`."""

    broker_url: Annotated[str, Field(pattern=BROKERS)] = "memory:"
    """Where events are numbered and kept; `memory:` is this process."""
    history_size: Annotated[int, Field(ge=1)] = 1000
    """Events that each topic keeps for clients that come back."""
    history_bytes: limits.Size = 4 << 20
    """Bytes that each topic keeps at most."""
    history_age: Annotated[limits.Duration, Field(gt=0)] = 3600.0
    """Seconds for which an event is kept."""
    history_total: limits.Size = 256 << 20
    """Bytes that all topics keep together, in the memory of a process and in Redis."""
    max_topics: Annotated[int, Field(ge=1)] = 10_000
    """Topics with history; above that the ones published on longest ago are forgotten."""
    max_followed: Annotated[int, Field(ge=1)] = 50_000
    """Topics and prefixes that clients of a process follow at once."""
    max_followed_per_client: Annotated[int, Field(ge=1)] = 10_000
    """Of them in all subscriptions of one sender, or one address."""
    max_replay: Annotated[int, Field(ge=1)] = 5000
    """Missed events that one request is sent before the client is told to come back for more."""
    max_keys: Annotated[int, Field(ge=1)] = 100_000
    """Idempotency keys that are remembered; they count in `history_total`."""
    max_event_size: limits.Size = 64 << 10
    """Bytes of one event."""
    max_per_topic: Annotated[int, Field(ge=1)] | None = None
    """Subscribers of one topic."""
    max_runs: Annotated[int, Field(ge=1)] = 1000
    """Runs at once in this process."""
    publish_rate: Annotated[float, Field(gt=0)] | None = None
    """Events per second that one sender, or one address, may publish."""
    policies: Annotated[str, Field(pattern=POLICIES)] = ""
    """What slow subscribers get, by topic or prefix: `ticker=latest,prices.*=coalesce`."""
    heartbeat: Annotated[limits.Duration, Field(gt=0)] = 15.0
    """Seconds of silence after which a stream shows that it is alive."""
    retry: limits.Duration = 2.0
    """Seconds after which a client comes back when nobody told it otherwise."""
    max_age: Annotated[limits.Duration, Field(gt=0)] = 3600.0
    """Seconds after which a client is told to come back, so that they spread over processes."""


# {% endif %}
class Settings(BaseSettings):
    """All settings of the service; read once, when the application is created."""

    model_config = SettingsConfigDict(
        env_prefix="APP_", env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    server: ServerSettings = ServerSettings()
    cors: CorsSettings = CorsSettings()
    log: LogSettings = LogSettings()
    streaming: limits.StreamingSettings = limits.StreamingSettings()
    # {% if cookiecutter.use_upload or cookiecutter.use_download %}
    storage: StorageSettings = StorageSettings()
    # {% endif %}
    # {% if cookiecutter.use_upload %}
    upload: UploadSettings = UploadSettings()
    # {% endif %}
    # {% if cookiecutter.use_download %}
    download: DownloadSettings = DownloadSettings()
    # {% endif %}
    # {% if cookiecutter.use_realtime %}
    realtime: RealtimeSettings = RealtimeSettings()

    def model_post_init(self, context: object) -> None:
        """Refuse what does not go together."""
        if self.server.workers > 1 and self.realtime.broker_url == "memory:":
            raise ValueError(
                "APP_SERVER__WORKERS: events live in the memory of one process, so there can be "
                "only 1"
            )
    # {% endif %}


def explain(error: ValidationError) -> Iterator[str]:
    """Yield one line per wrong setting, which names its environment variable."""
    for problem in error.errors(include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        variable = "APP_" + "__".join(str(part).upper() for part in problem["loc"])
        yield f"{variable}: {message}" if problem["loc"] else message
