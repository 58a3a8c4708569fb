"""Figures that modules offer to whoever watches the service."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

# Both are of the process, and every application in it reports them: what counts here are protocols
# and parsers, which belong to a server or to no request, and know no application.

#: What the server of this process ended itself: requests, by the status that refused them, and
#: connections that had to make room, those that only waited (`idle`) and those that were `slow`.
REFUSALS: Counter[str] = Counter()
#: How often a bound was reached, by its setting, such as `realtime.history_total`.
BOUNDS: Counter[str] = Counter()


class Measure(NamedTuple):
    """A figure at `/metrics`, read at each request; append it to `app.state.kernel.measures`.

    `name` ends with its unit, as Prometheus has it (`_bytes`, `_seconds`, `_total` of a counter).
    `kind` says what it is and how the figures of several processes become one: a `counter` only
    grows, a `sum` is a level that each process has a part of, a `max` one that all of them share.
    With a `label`, `read` returns a number for each of its values.
    """

    name: str
    help: str
    kind: Literal["counter", "sum", "max"]
    read: Callable[[], float | Mapping[str, float]]
    label: str = ""
