"""Figures that modules offer to whoever watches the service."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple


class Measure(NamedTuple):
    """A figure that is read when somebody asks for it.

    `kind` says what it is and how the figures of several processes become one: a `counter` only
    grows, a `sum` is a level that each process has a part of, a `max` one that all of them share.
    With a `label`, `read` returns a number for each of its values.
    """

    name: str
    help: str
    kind: Literal["counter", "sum", "max"]
    read: Callable[[], float | Mapping[str, float]]
    label: str = ""
