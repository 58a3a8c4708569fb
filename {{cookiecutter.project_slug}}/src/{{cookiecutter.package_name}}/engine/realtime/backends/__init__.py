"""Brokers: where events get their numbers, and what is kept of topics; a module for each.

`APP_REALTIME__BROKER_URL` chooses: `memory:` is this process, `redis://…` is shared by many.
"""

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...kernel.problem import Problem, ProblemType
from ..messages import Message
from ..ring import History
from ..settings import RealtimeSettings

if TYPE_CHECKING:
    from ..hub import Hub
    from ..topics import Position

#: The module of a scheme of which it is not the name.
_MODULES = {"rediss": "redis", "unix": "redis"}

KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    "The idempotency key was used before",
    "An `Idempotency-Key` stands for one event, and this one came with another. Send a repeated"
    " event as it was, and a new one with a new key.",
)
UNAVAILABLE = ProblemType(
    "broker-unavailable",
    "The broker does not answer",
    "Events cannot be published or read now. Come back after the seconds that `Retry-After` says,"
    " with the same `Idempotency-Key`: what was published may have arrived.",
)


class Once(NamedTuple):
    """What tells that a message was published before: the sender's key, and what it was for."""

    key: str
    fingerprint: str

    def refuse_other(self, fingerprint: str) -> None:
        """Raise Problem 422 when the key was used for something else."""
        if fingerprint != self.fingerprint:
            detail = "This Idempotency-Key was used for another event."
            raise Problem(422, detail, type=KEY_REUSED)


class Backend(Protocol):
    """What a hub needs of a broker; it tells the hub what happens (`deliver`, `heard`, `skip`).

    All of them raise Problem 503 with Retry-After when the broker does not answer. A `name` is a
    topic or a prefix (`name.*`).
    """

    @property
    def up(self) -> bool:
        """Whether the broker answered when it was last asked."""

    async def publish(self, topic: str, message: Message, once: Once | None) -> str:
        """Number a message, keep it, and deliver it everywhere; return its id.

        With `once` it happens only the first time; the id is the first one's. Raises Problem 422
        when the key was used for something else.
        """

    async def history(self, name: str) -> dict[str, History]:
        """Return what is kept, by topic.

        Also under the name itself: for a prefix no events, but the number up to which topics that
        begin with it may have been forgotten.
        """

    async def top(self) -> "Position":
        """Return the position of the newest event of all topics."""

    async def subscribe(self, name: str) -> None:
        """Deliver from now on what is published."""

    async def unsubscribe(self, name: str) -> None:
        """Deliver it no more; also for what was never subscribed."""

    async def close(self) -> None:
        """End everything that was begun."""


def open_backend(hub: "Hub", settings: RealtimeSettings) -> AbstractAsyncContextManager[Backend]:
    """Return the backend of the settings' broker, which is closed behind the block."""
    opened: AbstractAsyncContextManager[Backend] = _module(settings).open_backend(hub, settings)
    return opened


def check_backend(settings: RealtimeSettings) -> None:
    """End the process with one line when the broker has what this release cannot read."""
    if settings.broker_url != "memory:":
        _module(settings).check(settings)


def _module(settings: RealtimeSettings) -> Any:
    scheme = settings.broker_url.partition(":")[0]
    # By name: of the modules only those that were chosen are there.
    return import_module(f"{__name__}.{_MODULES.get(scheme, scheme)}")
