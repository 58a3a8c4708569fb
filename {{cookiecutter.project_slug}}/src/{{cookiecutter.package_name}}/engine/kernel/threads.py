"""Work that must not stop half-way, work that comes again, and blocking work in threads."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


async def complete(work: Awaitable[T]) -> T:
    """Await something to its end; a cancellation meanwhile goes on when it has ended."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            # Cancelled again, as a scope of anyio does and the end of the loop: it is the same.
            with suppress(asyncio.CancelledError):
                await asyncio.wait({future})
        if not future.cancelled():
            future.exception()  # Seen: asyncio would report it as never retrieved.
        raise


async def in_thread(
    executor: Executor | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a blocking function in a thread of `executor` and return its result.

    A cancellation waits for the thread: a file must not be closed (and its number given to
    another) under a thread that still writes to it.
    """
    loop = asyncio.get_running_loop()
    return await complete(loop.run_in_executor(executor, lambda: function(*args, **kwargs)))


async def iterate_in_thread(executor: Executor, source: Iterable[T]) -> AsyncGenerator[T]:
    """Iterate a synchronous source in a thread, and close it there."""
    iterator = iter(source)

    def take_one() -> list[T]:
        return list(islice(iterator, 1))

    try:
        while items := await in_thread(executor, take_one):
            yield items[0]
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await in_thread(executor, close)


@asynccontextmanager
async def repeating(interval: float, work: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Do some work every `interval` seconds while the block runs; a failure is only logged.

    It is done for the first time a second after the start, when everything else is there.
    """

    async def repeat() -> None:
        await asyncio.sleep(min(interval, 1.0))
        while True:
            try:
                await work()
            except Exception:
                logger.exception("%s failed; again in %s s", work.__qualname__, interval)
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
