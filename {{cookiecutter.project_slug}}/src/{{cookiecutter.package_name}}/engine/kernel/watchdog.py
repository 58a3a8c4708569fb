"""A watchdog: whether the event loop still answers, which only another thread can tell.

What blocks the loop (a synchronous call in an `async def`, an endless computation) stops every
stream, every deadline and the health check of its process, and nothing in the loop can say so.
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

#: How often the loop is asked.
PERIOD = 0.5

logger = logging.getLogger(__name__)


class Watchdog:
    """Asks the event loop for an answer from a thread, and measures how long that takes."""

    def __init__(self) -> None:
        #: Called in the loop with the seconds that it took to answer.
        self.on_answer: list[Callable[[float], None]] = []
        #: How often the loop was stuck.
        self.stalls = 0
        self._answered = True
        self._stuck = False
        self._limit = 0.0
        self._live_again_at = 0.0

    def is_live(self) -> bool:
        """Whether the loop answers, and has for as long as it may take.

        A loop that is stuck again and again answers some probe in between: it stays unlive until
        it has shown that it works, which is too short to fail the probes after a single stall.
        """
        return not self._stuck and time.monotonic() >= self._live_again_at

    @contextmanager
    def watching(self, limit: float, replaceable: bool = False) -> Generator[None]:
        """Watch the running loop; it is stuck when it has not answered for `limit` seconds.

        A process that is `replaceable` ends after twice the time: others answer the probes in its
        place, so that nobody outside finds it, but who started it starts another one.
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
        # Counted in rounds: a process that was itself suspended has not waited for anything.
        waited = 0.0
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
                _say(
                    logging.ERROR, "The event loop has not answered for %.1f s:\n%s", waited, stack
                )
            if waited >= 2 * self._limit and replaceable:
                said = _say(
                    logging.CRITICAL, "The event loop is stuck: process %d ends", os.getpid()
                )
                said.join(self._limit)
                os._exit(1)

    def _answer(self, asked_at: float) -> None:
        now = time.monotonic()
        if self._stuck:
            self._stuck = False
            self._live_again_at = now + self._limit
            logger.warning("The event loop answers again, after %.1f s", now - asked_at)
        self._answered = True
        for listener in self.on_answer:
            listener(now - asked_at)


def _say(level: int, *message: object) -> threading.Thread:
    """Log in a thread: the loop may be stuck in the middle of a line of the log."""
    thread = threading.Thread(target=logger.log, args=(level, *message), daemon=True)
    thread.start()
    return thread
