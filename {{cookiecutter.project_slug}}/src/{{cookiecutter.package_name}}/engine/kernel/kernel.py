"""What the streams of one application share: limits, drain, counts, and the slots of other modules.

The kernel imports no module. What a module adds to it is put into a slot by `app.py`: `observe`
(metrics, logs) and `describe` (the problem document).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from .deadlines import PUNCTUAL
from .drain import Drain
from .exchange import Exchange, OpenResponse
from .limits import StreamingSettings
from .measures import Measure
from .problem import Problem, ProblemType
from .watchdog import Watchdog

#: How often heartbeats and stuck sends are looked for.
SWEEP_SECONDS = 0.5

logger = logging.getLogger(__name__)

Observer = Callable[[Exchange], None]
Describe = Callable[[HTTPException, Exchange], dict[str, Any]]


#: How FastAPI answers errors: a list for what is not valid, else a text.
DETAIL: dict[str, Any] = {
    "title": "Error",
    "type": "object",
    "properties": {
        "detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
    },
    "required": ["detail"],
}


def describe_minimally(error: HTTPException, exchange: Exchange) -> dict[str, Any]:
    """The default description of an error; its `detail` is where FastAPI's own bodies have it."""
    return Problem.of(error).document()


class Kernel:
    """One per application, at `app.state.kernel`."""

    def __init__(self, limits: StreamingSettings, sections: Iterable[tuple[str, Any]]) -> None:
        """`sections` are those of the settings, by name: modules may have limits of their own."""
        self.limits = limits
        #: The limits of the modules that have some of their own.
        self.modules = limits.by_module(sections)
        self.drain = Drain()
        self.watchdog = Watchdog()
        #: Called when an exchange begins, and when it has ended, in its own context.
        self.on_open: list[Observer] = []
        self.observe: Observer = lambda exchange: None
        self.describe: Describe = describe_minimally
        #: The owner's handler of what nobody else has handled, if there is one.
        self.last_handler: Callable[[Any, Any], Any] | None = None
        #: The media type of what `describe` returns, as the body of a response.
        self.media_type = "application/json"
        #: Its JSON schema, for the OpenAPI document.
        self.error_schema: dict[str, Any] = DETAIL
        #: The types of problems that the application lists, by name.
        self.problem_types: dict[str, ProblemType] = {}
        #: What must work for new streams to be welcome, by name: whether it does.
        self.checks: dict[str, Callable[[], bool]] = {}
        #: Whether the owner has middleware, which is between the kernel and the path operations.
        self.has_layers = False
        #: What modules count and measure.
        self.measures: list[Measure] = []
        #: What every response has that says nothing else, by scheme; names in lower case.
        self.headers: dict[str, list[tuple[bytes, bytes]]] = {}
        #: Called in the loop every SWEEP_SECONDS.
        self.on_sweep: list[Callable[[], None]] = []
        self.streams: Counter[str] = Counter()
        self.channels: set[OpenResponse] = set()
        self.drain.on_begin(self._end_channels)
        #: For synchronous sources: bounded, and apart from the threads of other endpoints.
        self.threads = self._new_threads()

    @asynccontextmanager
    async def running(self, server: Any) -> AsyncGenerator[None]:
        """Sweep, watch the loop, and drain at a signal; `server` are the settings of that name."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            with (
                self.watchdog.watching(server.stuck_after, replaceable=server.workers > 1),
                self.drain.on_signals(server.drain_notice),
            ):
                yield
        finally:
            sweeper.cancel()
            self.threads.shutdown(wait=False, cancel_futures=True)
            self.threads = self._new_threads()  # None until an application is started again.

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.limits.threads, thread_name_prefix="stream")

    def response_to(self, error: HTTPException, exchange: Exchange) -> Response:
        """Return the answer to an error, as a document that nobody keeps."""
        # A proxy may keep a 404 for minutes, and so hide a file that is there by then.
        headers = {"Cache-Control": "no-store", **(error.headers or {})}
        if error.status_code in (204, 304):
            return Response(status_code=error.status_code, headers=headers)
        document = self.describe(error, exchange)
        return JSONResponse(document, error.status_code, headers, self.media_type)

    async def _sweep(self) -> None:
        # One timer for all channels: a timer, a scope or a task for each costs more than the sends.
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            if clock() > due + PUNCTUAL:
                await asyncio.sleep(PUNCTUAL)  # What clients have taken meanwhile is seen first.
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
    """Return the kernel of the service that opened the exchange of this request."""
    kernel: Kernel = scope["kernel"]
    return kernel
