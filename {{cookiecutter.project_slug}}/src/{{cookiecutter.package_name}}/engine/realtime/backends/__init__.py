"""Brokers: they number events, keep them, and deliver them to the hub. One module for each.

`APP_REALTIME__BROKER_URL` selects one: `memory:` is this process, `redis://…` is shared by many.
"""

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from ...kernel.problem import ProblemType
from ..messages import Message, Once
from ..ring import Event, History, Ledger
from ..settings import RealtimeSettings
from ..topics import Position

#: Modules whose names are not the scheme.
_MODULES = {"rediss": "redis", "unix": "redis"}

UNAVAILABLE = ProblemType(
    "broker-unavailable",
    "The broker is unavailable",
    "Events cannot be published or read now. Try again after the seconds in `Retry-After`, with the"
    " same `Idempotency-Key`: the event may have been published.",
)


class Published(NamedTuple):
    """The id of an event, and whether this attempt has published it."""

    id: str
    is_mine: bool


class Listener(Protocol):
    """The receiver of a backend's events, which is the hub. Its methods never call the backend."""

    ledger: Ledger
    """The memory for history, in which a backend counts what it keeps in this process."""

    @property
    def epoch(self) -> str:
        """The epoch of the last position that the listener received."""

    @property
    def top(self) -> int:
        """The highest number in this epoch that the listener received."""

    def deliver(self, event: Event) -> bool:
        """Pass an event to its subscribers; False if events before it are missing.

        Events come in the order of their numbers, and may come twice.
        """

    def heard(self, position: Position) -> None:
        """Adopt the broker's position; a new epoch is a gap for all subscribers."""

    def skip(self, topic: str, floor: int) -> None:
        """Report a gap if events of a topic or prefix up to this number did not arrive."""

    def followed(self) -> dict[str, int]:
        """Return the topics and prefixes that are kept, with the number of the newest event."""


class Backend(Protocol):
    """A broker.

    The methods raise Problem 503 with Retry-After if it is unavailable. A `name` is a topic or a
    prefix (`name.*`).
    """

    @property
    def up(self) -> bool:
        """Whether the broker delivers events."""

    @property
    def publishes(self) -> bool:
        """Whether the broker accepts events: it may only deliver them."""

    async def publish(
        self, topic: str, message: Message, once: Once | None, last: int | None = None
    ) -> Published:
        """Number a message, keep it, and deliver it to all processes.

        With `last`, the number of the newest event of the topic that the caller knows, nothing is
        published if another process has published a newer one.
        A repeated publication with an equal `once` only returns the id of the first one. Raises
        Problem 422 if its key was used with another content.
        """

    async def history(self, name: str) -> dict[str, History]:
        """Return the events that the broker keeps and the listener lacks, by topic.

        There is always a history under `name` itself: for a prefix without events, with the highest
        number of its topics that may have been dropped.
        """

    async def top(self) -> Position:
        """Return the position of the newest event over all topics."""

    async def subscribe(self, name: str) -> None:
        """Begin to deliver events."""

    async def unsubscribe(self, name: str) -> None:
        """Stop delivering events, if `subscribe` was called."""


def open_backend(
    listener: Listener, settings: RealtimeSettings
) -> AbstractAsyncContextManager[Backend]:
    """Open the backend of the settings' broker for the duration of a block."""
    opened: AbstractAsyncContextManager[Backend]
    opened = _module(settings).open_backend(listener, settings)
    return opened


def check_backend(settings: RealtimeSettings) -> None:
    """End the process with one line if the broker's URL is invalid, or its data cannot be read."""
    if settings.broker_url != "memory:":
        _module(settings).check(settings)


def _module(settings: RealtimeSettings) -> Any:
    scheme = settings.broker_url.partition(":")[0]
    # Imported by name, as the module of a broker that was not chosen is not generated.
    return import_module(f"{__name__}.{_MODULES.get(scheme, scheme)}")
