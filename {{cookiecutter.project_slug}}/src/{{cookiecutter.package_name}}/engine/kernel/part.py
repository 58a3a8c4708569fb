"""The parts of an application: one for each module that was chosen."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, ClassVar

from fastapi import FastAPI

from .limits import Section
from .problem import ProblemType


class Part:
    """A module of the application; `app.py` lists the parts in any order.

    A subclass adds routes, opens their resources, and defines commands. The settings are at
    `app.state.settings`.
    """

    #: Parts with smaller ranks are added and opened first, and closed last; the engine's ranks are
    #: below 100.
    rank = 100
    #: Whether the routes are matched after those of the other parts, which get more requests.
    routes_last = False
    #: The parts that this one requires.
    needs: tuple[type["Part"], ...] = ()
    #: The problem types that the part raises, in addition to those of every service.
    problem_types: tuple[ProblemType, ...] = ()
    #: The sections of the settings that the part reads, by name.
    sections: ClassVar[dict[str, type[Section]]] = {}
    #: The functions that `serve NAME ARGUMENTS…` calls with the settings and the arguments.
    commands: Mapping[str, Any] = MappingProxyType({})

    def check(self, settings: Any) -> None:
        """Exit with one line if the service cannot run; called as `prepare` is, and before it."""

    def prepare(self, app: FastAPI) -> None:
        """Called once by `serve`, before the server listens; not by its commands."""

    def adopt(self, settings: Any, owner: str) -> None:
        """Give everything that has no owner to this one; called by `serve keys adopt`."""

    def move(self, source: Any, target: Any) -> int:
        """Copy all data from the store of some settings to another; called by `serve move`.

        Reports each problem in a line, and returns their number.
        """
        return 0

    def listening(self, app: FastAPI, port: int) -> None:
        """Called in a thread of every process of `serve`, once it listens on the port."""

    def add_to(self, app: FastAPI) -> None:
        """Add routes and handlers."""

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        """Keep the resources of the routes open while the service runs."""
        yield


def opened(app: FastAPI, name: str) -> Any:
    """Return a resource of a part, from `app.state`; raises RuntimeError if it is not open."""
    try:
        return getattr(app.state, name)
    except AttributeError:
        raise RuntimeError(
            f"`{name}` is not open: the application lacks the part that opens it, or was not"
            " started. `with TestClient(app) as client` starts it; an application that it is"
            " mounted in has to run its lifespan."
        ) from None
