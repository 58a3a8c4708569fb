"""The settings of topics and runs."""

from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ..kernel.limits import Duration, ModuleLimits, Size

#: The memory of this process, or Redis.
BROKERS = r"^(memory:$|rediss?://|unix://)"
#: Topics and prefixes, separated by commas.
NAMES = r"^([A-Za-z0-9_.-]+(\.\*)?(,|$))*$"
#: `topic=policy`, separated by commas.
POLICIES = r"^([A-Za-z0-9_.-]+(\.\*)?=(disconnect|latest|coalesce)(,|$))*$"


def _available(url: str) -> str:
    if url != "memory:":
        if urlsplit(url).port == 0:  # Raises ValueError for other bad ports.
            raise ValueError("a port is between 1 and 65535")
        try:
            find_spec(f"{__package__}.backends.redis")
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from None
    return url


class RealtimeSettings(ModuleLimits):
    """The history of topics, the streams, and their limits: `APP_REALTIME__…`."""

    broker_url: Annotated[str, Field(pattern=BROKERS), AfterValidator(_available)] = "memory:"
    """The broker that numbers and keeps events; `memory:` is this process."""
    history_size: Annotated[int, Field(ge=1)] = 1000
    """Events that each topic keeps for clients that reconnect."""
    history_bytes: Size = 4 << 20
    """Bytes that each topic keeps at most."""
    history_age: Annotated[Duration, Field(gt=0)] = 3600.0
    """Seconds for which an event is kept."""
    history_total: Size = 256 << 20
    """Bytes that all topics keep together, in the memory of a process and in Redis."""
    max_topics: Annotated[int, Field(ge=1)] = 10_000
    """Topics with history; above that the least recently published ones are dropped."""
    max_followed: Annotated[int, Field(ge=1)] = 50_000
    """Topics and prefixes that clients of a process follow at once."""
    max_followed_per_client: Annotated[int, Field(ge=1)] = 10_000
    """Topics and prefixes that one user, or one address, follows in all subscriptions."""
    max_replay: Annotated[int, Field(ge=1)] = 5000
    """Missed events in one response; for more the client has to reconnect."""
    max_keys: Annotated[int, Field(ge=1)] = 100_000
    """Idempotency keys that are remembered; they count in `history_total`."""
    max_event_size: Size = 64 << 10
    """Bytes of one event."""
    max_run_size: Size = 1 << 20
    """Bytes of the body that starts a run."""
    max_per_topic: Annotated[int, Field(ge=1)] | None = None
    """Subscribers of one topic."""
    max_runs: Annotated[int, Field(ge=1)] = 1000
    """Runs at once in this process."""
    max_runs_per_client: Annotated[int, Field(ge=1)] = 100
    """Runs at once in this process of one user, or one address."""
    max_run_age: Annotated[Duration, Field(gt=0)] = 3600.0
    """Seconds after which a run is ended; it fails with status 504."""
    publish_rate: Annotated[float, Field(gt=0)] | None = None
    """Events per second that one user, or one address, may publish."""
    read_only: Annotated[str, Field(pattern=NAMES)] = ""
    """Topics on which only the service publishes, besides its own: `orders,prices.*`."""
    policies: Annotated[str, Field(pattern=POLICIES)] = ""
    """The policies for slow subscribers: `ticker=latest,prices.*=coalesce`."""
    heartbeat: Annotated[Duration, Field(gt=0)] = 15.0
    """Seconds of silence after which a stream sends a heartbeat."""
    retry: Duration = 2.0
    """Seconds after which a client reconnects by default."""
    max_age: Annotated[Duration, Field(gt=0)] = 3600.0
    """Seconds after which a client is asked to reconnect, so that clients spread over processes."""
