"""The application: FastAPI with the chosen parts, in the order that they require."""

import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from . import docs, edge, observability, openapi, sources
from .kernel.admission import CLIENT_FULL, FULL
from .kernel.body import PARTIAL, TOO_LARGE, TOO_SLOW
from .kernel.drain import DRAINING
from .kernel.fields import TOO_LONG
from .kernel.kernel import Kernel
from .kernel.middleware import BreakMiddleware
from .kernel.part import Part
from .kernel.problem import INVALID
from .settings import ServiceSettings

__all__ = ["Service"]

#: The problem types of every service.
PROBLEM_TYPES = (
    *(CLIENT_FULL, DRAINING, FULL, INVALID, PARTIAL, TOO_LARGE, TOO_LONG, TOO_SLOW),
    *(edge.UNKNOWN_HOST, edge.FOREIGN_PAGE),
)


class Service(FastAPI):
    """A FastAPI application with the engine in it.

    `include_router`, `add_middleware`, `exception_handler` and `lifespan` work as in FastAPI, and
    can be called in any order. The engine's own middleware stays outermost. The parts open
    before your lifespan begins, and close after it has ended. Runs are the exception: they start
    after your lifespan has begun and end before it does, because they may use its resources.
    """

    def __init__(self, settings: ServiceSettings, *parts: Part, **options: Any) -> None:
        """`parts` may have any order; `options` are those of FastAPI.

        The `title` defaults to the name of the installed distribution, or else of the package.
        """
        self.parts = sorted(parts, key=lambda part: part.rank)
        self.settings = settings
        _check_needs(self.parts, settings)
        kernel = Kernel(settings.streaming, settings)
        # FastAPI's own middleware would refuse larger bodies without a problem document.
        kernel.max_body = options.pop("max_body_size", None)
        types = [PROBLEM_TYPES, *(part.problem_types for part in parts)]
        kernel.problem_types = {kind.name: kind for kinds in types for kind in kinds}
        usual: dict[str, Any] = {
            # Clients often send a whole body before they read a response: a redirect that adds a
            # slash would waste it.
            "redirect_slashes": False,
            "telemetry": observability.telemetry(),
            "title": _name(),
        }
        if not settings.server.docs:
            options["openapi_url"] = None
        super().__init__(**(usual | options))
        self._documents = openapi.Documents(self, kernel)
        self._own_lifespan = self.router.lifespan_context
        self.router.lifespan_context = Service._lifespan
        self.state.settings, self.state.kernel = settings, kernel
        for part in sorted(self.parts, key=lambda part: part.routes_last):
            part.add_to(self)
        observability.install(self)
        edge.install(self)
        self._documents.install()
        docs.install(self)
        self.exception_handlers.update(options.get("exception_handlers") or {})

    @property
    def commands(self) -> dict[str, Callable[[Any, list[str]], None]]:
        """The functions that `serve NAME …` runs, by name."""
        return {name: run for part in self.parts for name, run in part.commands.items()}

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI 3.1 document; an assignment replaces it, as with FastAPI."""
        return self._documents.complete(super().openapi())

    def check(self) -> None:
        """Exit with one line if the service cannot run; called before the server listens."""
        for part in self.parts:
            part.check(self.settings)

    def build_middleware_stack(self) -> ASGIApp:
        """Put the engine's middleware around the owner's; FastAPI calls this at the start."""
        observability.add_index(self)  # Last, so that the owner's route takes precedence.
        # Tests may call the application without its lifespan.
        sources.watch(self, self.state.kernel)
        if self.user_middleware:
            self.state.kernel.has_layers = True
            self.user_middleware.append(Middleware(BreakMiddleware))
        kernel: Kernel = self.state.kernel
        self.user_middleware[:0] = [*edge.around(kernel, self.settings), *kernel.layers]
        handlers = self.exception_handlers
        self.state.kernel.last_handler = handlers.get(500) or handlers.get(Exception)
        # The kernel calls that handler. Starlette would call it again, outside of the exchange.
        others = {kind: each for kind, each in handlers.items() if kind not in (500, Exception)}
        self.exception_handlers = others
        try:
            return super().build_middleware_stack()
        finally:
            self.exception_handlers = handlers

    @asynccontextmanager
    async def _lifespan(self) -> AsyncGenerator[Any]:
        kernel = self.state.kernel
        async with AsyncExitStack() as stack:
            # Remove the metrics of the parts at the end, because tests start an application again.
            stack.callback(setattr, kernel, "measures", [*kernel.measures])
            for part in self.parts:
                await stack.enter_async_context(part.running(self))
            await stack.enter_async_context(kernel.running(self.settings.server))
            sources.watch(self, kernel)
            state = await stack.enter_async_context(self._own_lifespan(self))
            # The objects of the start are no garbage: a full collection would look at all of them,
            # and stop every stream for that time.
            gc.freeze()
            stack.callback(gc.unfreeze)
            yield state


def _name() -> str:
    package = __name__.partition(".")[0]
    try:
        return metadata(package)["Name"]
    except PackageNotFoundError:
        return package


def _check_needs(parts: list[Part], settings: ServiceSettings) -> None:
    """Raise TypeError for a missing part, or a missing section of the settings."""
    for part in parts:
        own = type(part).__name__
        for needed in part.needs:
            if not any(isinstance(each, needed) for each in parts):
                raise TypeError(f"{own}() needs {needed.__name__}(): pass both in app.py")
        for name, kind in part.sections.items():
            if not isinstance(getattr(settings, name, None), kind):
                raise TypeError(
                    f"{own} needs `{name}: {kind.__name__} = {kind.__name__}()`"
                    f" in {type(settings).__name__}"
                )
