"""What metrics read of a hub."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counts that only grow."""

    delivered: int = 0
    published: int = 0
    #: Subscriptions by how they began: "fresh", "replayed"; and the gaps told, as "reset".
    resumes: Counter[str] = field(default_factory=Counter)
    #: Clients that were cut because they read too slowly.
    slow: int = 0
