"""A thread that watches the event loop.

A blocked loop (a synchronous call in an `async def`, an endless computation) stops every stream,
every deadline and the health check of its process, and no code in the loop can detect it.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager

#: Seconds between two checks.
PERIOD = 0.5

logger = logging.getLogger(__name__)


class Watchdog:
    """Measures from a thread how long the event loop takes to run a callback."""

    def __init__(self) -> None:
        #: Called in the loop with the seconds that a callback has waited.
        self.on_answer: list[Callable[[float], None]] = []
        #: How often the loop was blocked.
        self.stalls = 0
        self._answered = True
        self._stuck = False
        self._limit = 0.0
        self._live_again_at = 0.0

    def is_live(self) -> bool:
        """Whether the loop responds, and has responded for `limit` seconds since its last stall.

        A loop that is blocked repeatedly responds to some probes in between, so a single response
        does not suffice. After a single stall the time is too short for several probes to fail.
        """
        return not self._stuck and time.monotonic() >= self._live_again_at

    @contextmanager
    def watching(self, limit: float, replaceable: bool = False) -> Generator[None]:
        """Watch the running loop; it is stuck when it has not responded for `limit` seconds.

        A `replaceable` process ends itself after twice that time, and its supervisor starts another
        one. Otherwise the stuck process would stay, because other workers respond to the probes.
        """
        self._limit = limit
        ended = threading.Event()
        watched = (asyncio.get_running_loop(), threading.get_ident(), ended, replaceable)
        thread = threading.Thread(target=self._watch, args=watched, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(
        self,
        loop: asyncio.AbstractEventLoop,
        watched: int,
        ended: threading.Event,
        replaceable: bool,
    ) -> None:
        # Count rounds, not time: while the whole process is suspended, the loop is not stuck.
        waited = 0.0
        report: threading.Thread | None = None
        while not ended.wait(PERIOD):
            if self._answered:
                waited, self._answered = 0.0, False
                loop.call_soon_threadsafe(self._answer, time.monotonic())
                continue
            waited += PERIOD
            if waited >= self._limit and not self._stuck:
                self._stuck = True
                self.stalls += 1
                stack = "".join(traceback.format_stack(sys._current_frames()[watched]))
                message = "The event loop has not responded for %.1f s:\n%s"
                report = _log(logging.ERROR, message, waited, stack)
            if waited >= 2 * self._limit and replaceable:
                message = "The event loop is stuck: process %d ends"
                _log(logging.CRITICAL, message, os.getpid()).join(self._limit)
                os._exit(1)
        if report is not None:
            report.join(PERIOD)  # The end of the process would also end the report.

    def _answer(self, asked_at: float) -> None:
        now = time.monotonic()
        if self._stuck:
            self._stuck = False
            self._live_again_at = now + self._limit
            logger.warning("The event loop responds again, after %.1f s", now - asked_at)
        self._answered = True
        for listener in self.on_answer:
            listener(now - asked_at)


def _log(level: int, *message: object) -> threading.Thread:
    """Log in a thread: the loop may be blocked while it holds the lock of the log."""
    thread = threading.Thread(target=logger.log, args=(level, *message), daemon=True)
    thread.start()
    return thread
