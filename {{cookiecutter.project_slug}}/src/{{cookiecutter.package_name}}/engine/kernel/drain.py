"""Drain: stop taking streams, tell the open ones, then let the server end.

uvicorn stops accepting at SIGTERM and runs lifespan *shutdown* only after every connection has
ended, so a stream that waits for shutdown never ends and neither does the server. The signal is
therefore taken in lifespan *startup*, in front of the server's own handler. The same recipe works
with one worker, several, `--reload`, and on granian.
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
    "This process is about to end and takes nothing new. Come back after the seconds that"
    " `Retry-After` says: another one will answer.",
)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drain:
    """Whether this process is on its way out, and who wants to know."""

    def __init__(self) -> None:
        self.draining = False
        self.notice = 0.0
        self._listeners: list[Callable[[], None]] = []

    def on_begin(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop when the drain begins."""
        self._listeners.append(listener)

    def begin(self) -> None:
        """Begin to drain; further calls do nothing."""
        if not self.draining:
            self.draining = True
            for listener in self._listeners:
                listener()

    def retry_after(self) -> float:
        """Seconds until a client may try again, spread so that not all of them come at once."""
        return self.notice + random.uniform(1.0, 5.0)  # noqa: S311  # spread, not secret

    def refusal(self) -> Problem:
        """Return the answer to a request that the drain leaves no time for."""
        headers = {"Retry-After": f"{self.retry_after():.0f}"}
        return Problem(503, "The service is shutting down.", type=DRAINING, headers=headers)

    @contextmanager
    def on_signals(self, notice: float) -> Generator[None]:
        """Begin to drain at SIGTERM or SIGINT, and hand the signal on `notice` seconds later.

        The notice is the time in which a load balancer sees readiness fail while the server still
        accepts. A second signal is handed on at once. Does nothing outside the main thread.
        """
        self.notice = notice
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        restore = []
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            handler = self._chain(loop, previous, notice)
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
        notice: float,
    ) -> Callable[[int, FrameType | None], None]:
        def hand_on(number: int) -> None:
            if callable(previous):
                previous(number, None)

        def handle(number: int, frame: FrameType | None) -> None:
            first = not self.draining
            loop.call_soon_threadsafe(self.begin)
            if not first:
                hand_on(number)
            elif notice:
                loop.call_soon_threadsafe(loop.call_later, notice, hand_on, number)
            else:
                # A turn after the streams were told: a server that ends at once would close
                # connections before their last words.
                loop.call_soon_threadsafe(loop.call_soon, hand_on, number)

        return handle
