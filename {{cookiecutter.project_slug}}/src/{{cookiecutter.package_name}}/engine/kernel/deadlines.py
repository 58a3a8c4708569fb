"""Deadlines that open and close in one frame.

A timeout or task group held across a `yield` cancels whoever happens to run the generator at that
moment. So generators hold none: the driver that iterates them does, around one await at a time.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Self

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send

from .outcomes import SlowClient

#: How long a source may take to clean up after its client has left.
CLEANUP_SECONDS = 5.0
#: Seconds by which a timer of a loop that has nothing better to do may be late.
PUNCTUAL = 0.05


class Deadline:
    """A limit for a peer, like `asyncio.timeout`, with one timer for many waits in a row.

    A timer per chunk would cost more than the chunk: this one looks at the deadline when it fires,
    and only then sets itself to what the deadline is by now. And when the loop was too busy to look
    in time, what the peer has done meanwhile is looked at first.
    """

    __slots__ = ("_at", "_cancelling", "_fired", "_fires_at", "_loop", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._at: float | None = None
        self._cancelling = 0
        self._fired = False

    def within(self, seconds: float) -> Self:
        """Return the context of one wait; TimeoutError is raised there when it takes longer."""
        self._at = self._loop.time() + seconds
        return self

    def end(self) -> None:
        """No wait follows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task else 0
        if self._at is not None and (self._timer is None or self._fires_at > self._at):
            self._set(self._at)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._at = None
        if self._fired and self._task is not None:
            self._fired = False
            # Only when nobody else wants the task to end as well.
            if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from None

    def _set(self, when: float) -> None:
        self.end()
        self._fires_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return  # Nobody waits; who does next sets a timer.
        now = self._loop.time()
        if self._fires_at <= self._at and now > self._fires_at + PUNCTUAL:
            self._set(now + PUNCTUAL)
        elif self._at <= now and self._task is not None:
            self._fired = True
            self._task.cancel()
        else:
            self._set(self._at)


async def send_within(send: Send, message: Message, limit: float) -> None:
    """Send one ASGI message; raise SlowClient when the peer does not take it in `limit` seconds."""
    deadline = Deadline()
    try:
        with deadline.within(limit):
            await send(message)
    except TimeoutError:
        raise SlowClient(limit) from None
    finally:
        deadline.end()


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[None]:
    """Run the block until the client leaves; then cancel it and raise ClientDisconnect.

    The block is cancelled once, not at every further await: what it cleans up with `await` in a
    `finally` runs to its end, for at most CLEANUP_SECONDS. Only for requests whose body has been
    read, because this reads `receive`: no ASGI server raises from `send` after a disconnect.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as cleanup, asyncio.timeout(None) as connected:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                connected.reschedule(loop.time())
                cleanup.reschedule(loop.time() + CLEANUP_SECONDS)

            watcher = loop.create_task(watch())
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if connected.expired() or cleanup.expired():
            raise ClientDisconnect from None
        raise
