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
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from .drain import Drain
from .limits import StreamingSettings
from .measures import Measure
from .problem import Problem

if TYPE_CHECKING:
    from .exchange import Exchange
    from .push import Channel

#: How often heartbeats and stuck sends are looked for.
SWEEP_SECONDS = 0.5

logger = logging.getLogger(__name__)

Observer = Callable[["Exchange"], None]
Describe = Callable[[HTTPException, "Exchange"], dict[str, Any]]


def log_exchange(exchange: "Exchange") -> None:
    """The default observer: one line when the exchange has ended, without query or client."""
    logger.info(
        "%s %s %d %s in=%d out=%d %.3fs id=%s",
        exchange.method,
        exchange.route,
        exchange.status,
        exchange.outcome,
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.ended_at - exchange.started_at,
        exchange.request_id,
    )


def describe_minimally(error: HTTPException, exchange: "Exchange") -> dict[str, Any]:
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
        self.observe: Observer = log_exchange
        self.describe: Describe = describe_minimally
        #: The media type of what `describe` returns, as the body of a response.
        self.media_type = "application/json"
        #: What must work for new streams to be welcome, by name: whether it does.
        self.checks: dict[str, Callable[[], bool]] = {}
        #: What modules count and measure.
        self.measures: list[Measure] = []
        #: What every response has that says nothing else; names in lower case.
        self.headers: list[tuple[bytes, bytes]] = []
        #: Called in the loop every SWEEP_SECONDS.
        self.on_sweep: list[Callable[[], None]] = []
        self.streams: Counter[str] = Counter()
        self.channels: set[Channel] = set()
        #: For synchronous sources: bounded, and apart from the threads of other endpoints.
        self.threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="stream")

    @asynccontextmanager
    async def running(self, notice: float, stuck_after: float) -> AsyncGenerator[None]:
        """Sweep the channels, and drain at a signal with `notice` seconds; for the lifespan."""
        self.drain.on_begin(self._end_channels)
        sweeper = asyncio.create_task(self._sweep())
        try:
            with self.drain.on_signals(notice):
                yield
        finally:
            sweeper.cancel()
            self.threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, exchange: "Exchange", error: HTTPException) -> None:
        """Answer an exchange whose response has not started with an error."""
        response = JSONResponse(
            self.describe(error, exchange),
            error.status_code,
            dict(error.headers or {}),
            self.media_type,
        )
        await response(exchange.scope, exchange.receive, exchange.send)

    async def _sweep(self) -> None:
        # One timer for all channels: a timer, a scope or a task for each costs more than the sends.
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
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
    """Return the kernel of the application that serves this request."""
    app: FastAPI = scope["app"]
    kernel: Kernel = app.state.kernel
    return kernel
