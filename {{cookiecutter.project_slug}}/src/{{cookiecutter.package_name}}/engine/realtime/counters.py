"""What metrics read of a hub."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..kernel.kernel import Measure

if TYPE_CHECKING:
    from .hub import Hub


@dataclass(slots=True)
class Counters:
    """Counts that only grow."""

    delivered: int = 0
    published: int = 0
    #: Subscriptions by how they began: "fresh", "replayed"; and the gaps told, as "reset".
    resumes: Counter[str] = field(default_factory=Counter)


def measures_of(hub: "Hub") -> list[Measure]:
    """Return the figures of a hub."""
    counters = hub.counters

    def subscriptions() -> float:
        return len(hub.subscriptions())

    def topics() -> float:
        return len(hub.followed())

    def lag() -> float:
        return max((subscription.lag for subscription in hub.subscriptions()), default=0)

    def resumes() -> dict[str, float]:
        return dict(counters.resumes)

    return [
        Measure("realtime_subscriptions", "Subscriptions.", "sum", subscriptions),
        Measure("realtime_topics", "Topics and prefixes that are kept.", "sum", topics),
        Measure("realtime_lag_events", "Of the subscriber that is furthest behind.", "max", lag),
        Measure("realtime_published", "Events published.", "counter", lambda: counters.published),
        Measure("realtime_delivered", "Events delivered.", "counter", lambda: counters.delivered),
        Measure("realtime_resumes", "Subscriptions by beginning.", "counter", resumes, "result"),
    ]
