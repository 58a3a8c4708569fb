"""What an application is put together of: one part for each module that was chosen."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from fastapi import FastAPI

from .admission import CLIENT_FULL, FULL
from .body import PARTIAL, TOO_LARGE, TOO_SLOW
from .drain import DRAINING
from .limits import Section
from .middleware import TOO_LONG
from .problem import INVALID, ProblemType


class Part:
    """A module, as `app.py` names it; the order there does not matter.

    A subclass of your own adds routes, opens what they need, and brings commands. The settings are
    at `app.state.settings`.
    """

    #: Parts with smaller ranks are added and opened before others, and closed after them; those of
    #: the engine have less than 100.
    rank = 100
    #: Whether its routes are tried after those of the others, whose clients ask more often.
    routes_last = False
    #: Parts without which it does not work.
    needs: tuple[type["Part"], ...] = ()
    #: Those of the problems that the part raises, besides those of every service.
    problem_types: tuple[ProblemType, ...] = ()
    #: The sections of the settings that it reads, by name.
    sections: ClassVar[dict[str, type[Section]]] = {}
    #: `serve NAME ARGUMENTS…`: what is called with the settings and the arguments.
    commands: ClassVar[dict[str, Any]] = {}

    def check(self, settings: Any) -> None:
        """End the process with one line when the service cannot run; before it listens."""

    def add_to(self, app: FastAPI) -> None:
        """Add routes and handlers."""

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        """Keep open what the routes need, for as long as the service runs."""
        yield


def opened(app: FastAPI, name: str) -> Any:
    """Return what a part keeps open at `app.state`; raises RuntimeError when nothing is open."""
    try:
        return getattr(app.state, name)
    except AttributeError:
        raise RuntimeError(
            f"`{name}` is not open: the application lacks the part that opens it, or has not been"
            " started. `with TestClient(app) as client` starts it; the lifespan of an application"
            " that it is mounted in has to."
        ) from None


PROBLEM_TYPES = (
    CLIENT_FULL,
    DRAINING,
    FULL,
    INVALID,
    PARTIAL,
    TOO_LARGE,
    TOO_LONG,
    TOO_SLOW,
)
