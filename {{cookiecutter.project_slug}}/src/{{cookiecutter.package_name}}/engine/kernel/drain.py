"""Drain: refuse new streams, end the open ones, then let the server stop.

uvicorn stops accepting at SIGTERM and runs lifespan shutdown only after every connection has
ended. A stream that waits for shutdown would therefore never end, nor would the server. So the
handler of the signal is installed in lifespan startup, before the server's own. This works with
one worker, several, `--reload`, and on granian.
"""

import asyncio
import random
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from .problem import Problem, ProblemType

DRAINING = ProblemType(
    "draining",
    "The service is shutting down",
    "This process is about to end, and rejects new streams. Try again after the seconds in"
    " `Retry-After`: another process will respond.",
)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drain:
    """The state of a shutdown, and the callbacks that run when it begins."""

    def __init__(self) -> None:
        self.draining = False
        self.notice = self.timeout = 0.0
        #: Called in the event loop when the drain begins.
        self.on_begin: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Begin to drain; further calls do nothing."""
        if not self.draining:
            self.draining = True
            for listener in self.on_begin:
                listener()

    def retry_after(self) -> float:
        """Return the seconds until a client may retry; random, so that clients spread out."""
        return self.notice + random.uniform(1.0, 5.0)  # noqa: S311  # Not a secret.

    def refusal(self) -> Problem:
        """Return the problem for a request that came too late."""
        headers = {"Retry-After": f"{self.retry_after():.0f}"}
        return Problem(503, "The service is shutting down.", type=DRAINING, headers=headers)

    @contextmanager
    def on_signals(self, notice: float, timeout: float) -> Generator[None]:
        """Begin to drain at SIGTERM or SIGINT, and pass the signal on `notice` seconds later.

        During the notice a load balancer sees readiness fail while the server still accepts. A
        second signal is passed on at once. Does nothing outside the main thread.
        """
        self.notice, self.timeout = notice, timeout
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        restore = []
        for number in SIGNALS:
            previous = signal.getsignal(number)
            handler = self._chain(loop, previous)
            signal.signal(number, handler)
            restore.append((number, handler, previous))
        try:
            yield
        finally:
            for number, handler, previous in restore:
                if signal.getsignal(number) is handler:
                    signal.signal(number, previous)

    def _chain(
        self,
        loop: asyncio.AbstractEventLoop,
        previous: Callable[[int, FrameType | None], object] | int | None,
    ) -> Callable[[int, FrameType | None], None]:
        def pass_on(number: int) -> None:
            if callable(previous):
                previous(number, None)

        def handle(number: int, frame: FrameType | None) -> None:
            first = not self.draining
            loop.call_soon_threadsafe(self.begin)
            if not first:
                pass_on(number)
            elif self.notice:
                loop.call_soon_threadsafe(loop.call_later, self.notice, pass_on, number)
            else:
                # One iteration later: a server that stops at once would close the connections
                # before the streams have sent their last messages.
                loop.call_soon_threadsafe(loop.call_soon, pass_on, number)

        return handle
