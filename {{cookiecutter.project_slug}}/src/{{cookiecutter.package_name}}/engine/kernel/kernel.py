"""The state that the streams of one application share: limits, drain, counts and metrics.

The kernel does not import the modules: `observability` sets `observe`, and `errors` sets
`describe`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Scope

from .body import PUNCTUAL
from .drain import Drain
from .exchange import Exchange, OpenResponse
from .limits import StreamingSettings
from .problem import Problem, ProblemType
from .watchdog import Watchdog

#: Seconds between two checks of heartbeats and send deadlines.
SWEEP_SECONDS = 0.5

# Both counters belong to the process, and every application in it reports them. Protocols and
# parsers increment them: they serve several applications, or have no access to a request.

#: Requests that the server refused itself, by status, and `idle` connections that it closed to make
#: room.
REFUSALS: Counter[str] = Counter()
#: How often a limit was reached, by its setting, such as `realtime.history_total`.
BOUNDS: Counter[str] = Counter()

logger = logging.getLogger(__name__)

Observer = Callable[[Exchange], None]
Describe = Callable[[HTTPException, Exchange], dict[str, Any]]

#: The JSON schema of FastAPI's own errors: `detail` is a list for invalid requests, otherwise a
#: string.
DETAIL: dict[str, Any] = {
    "title": "Error",
    "type": "object",
    "properties": {
        "detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
    },
    "required": ["detail"],
}


class Measure(NamedTuple):
    """A metric at `/metrics`, read at each request; append it to `app.state.kernel.measures`.

    `name` ends with the unit, as Prometheus requires (`_bytes`, `_seconds`, `_total` of a counter).
    `kind` defines how the values of several processes are combined. The values of a `counter`,
    which only grows, and of a `sum`, a gauge, are added. A `max` is a gauge whose largest value
    is reported. With a `label`, `read` returns a number for each of its values.
    """

    name: str
    help: str
    kind: Literal["counter", "sum", "max"]
    read: Callable[[], float | Mapping[str, float]]
    label: str = ""


class Kernel:
    """The kernel of one application, at `app.state.kernel`."""

    #: The `WWW-Authenticate` of a service with access control (RFC 6750), None without.
    challenge: str | None = None
    #: Signs a path, for the access of an owner and some seconds; returns the seconds, too.
    sign: Callable[[str, str, float], tuple[str, float]] | None = None
    #: Whether the owner has middleware, between the kernel and the path operations.
    has_layers = False

    def __init__(self, limits: StreamingSettings, sections: Iterable[tuple[str, Any]]) -> None:
        """`sections` are those of the settings, by name: modules may have limits of their own."""
        self.limits = limits
        #: The limits of the modules that have their own section, by name.
        self.modules = limits.by_module(sections)
        self.drain = Drain()
        self.watchdog = Watchdog()
        #: Called when an exchange begins, in its own context; `observe` is called after its end.
        self.on_open: list[Observer] = []
        self.observe: Observer = lambda exchange: None
        #: The document of an error, its media type, and its JSON schema for OpenAPI.
        self.describe: Describe = lambda error, exchange: Problem.of(error).document()
        self.media_type = "application/json"
        self.error_schema: dict[str, Any] = DETAIL
        #: The owner's handler of errors that no other handler takes, if there is one.
        self.last_handler: Callable[[Any, Any], Any] | None = None
        #: The problem types of the application, by name.
        self.problem_types: dict[str, ProblemType] = {}
        #: Scopes that everybody has.
        self.open_scopes: set[str] = set()
        #: The middleware of parts, around that of the owner.
        self.layers: list[Middleware] = []
        #: Called with the OpenAPI document, before the errors are added to it.
        self.on_openapi: list[Callable[[dict[str, Any]], None]] = []
        #: The conditions for readiness, by name.
        self.checks: dict[str, Callable[[], bool]] = {}
        #: The names of checks that are reported, but may fail while the service is ready.
        self.tolerated: set[str] = set()
        #: The owner's limit of request bodies, in bytes, for all path operations.
        self.max_body: int | None = None
        #: The path templates of mounts and of Starlette's routes, by the id of the endpoint.
        self.templates: dict[int, str] = {}
        #: The metrics of the modules.
        self.measures: list[Measure] = []
        #: Default headers of every response, by URL scheme; names in lower case.
        self.headers: dict[str, list[tuple[bytes, bytes]]] = {}
        #: Called in the event loop every SWEEP_SECONDS.
        self.on_sweep: list[Callable[[], None]] = []
        #: The open streams, by slot (`Admission`).
        self.streams: Counter[str] = Counter()
        self.channels: set[OpenResponse] = set()
        self.drain.on_begin.append(self._end_channels)
        #: For synchronous sources: limited, and separate from the threads of other endpoints.
        self.threads = self._new_threads()

    @asynccontextmanager
    async def running(self, server: Any) -> AsyncGenerator[None]:
        """Sweep, watch the event loop, and drain at a signal; `server` is the `ServerSettings`."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            with (
                self.watchdog.watching(server.stuck_after, replaceable=server.workers > 1),
                self.drain.on_signals(server.drain_notice, server.drain_timeout),
            ):
                yield
        finally:
            sweeper.cancel()
            self.threads.shutdown(wait=False, cancel_futures=True)
            self.threads = self._new_threads()  # For the next start of the application.

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.limits.threads, thread_name_prefix="stream")

    def response_to(self, error: HTTPException, exchange: Exchange) -> Response:
        """Return the response to an error, which caches may not store."""
        # A cached 404 would hide a file that is created in the meantime.
        headers = {"Cache-Control": "no-store", **(error.headers or {})}
        if error.status_code in (204, 304):
            return Response(status_code=error.status_code, headers=headers)
        document = self.describe(error, exchange)
        return JSONResponse(document, error.status_code, headers, self.media_type)

    async def _sweep(self) -> None:
        # One timer for all channels: a timer or a task for each costs more than the sends.
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            if clock() > due + PUNCTUAL:
                await asyncio.sleep(PUNCTUAL)  # First process the sends that became possible.
            now = clock()
            sweeps: list[Callable[[], None]] = [*self.on_sweep]
            sweeps += [partial(channel.sweep, now) for channel in self.channels]
            for sweep in sweeps:
                try:
                    sweep()
                except Exception:
                    logger.exception("A sweep failed")

    def _end_channels(self) -> None:
        for channel in tuple(self.channels):
            channel.drain(self.drain.retry_after())


def kernel_of(scope: Scope) -> Kernel:
    """Return the kernel of the application that opened the exchange of this request."""
    kernel: Kernel = scope["kernel"]
    return kernel
