"""Work that must not stop half-way, blocking work in threads, periodic work, and callbacks."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)

#: Seconds in which periodic work that is cancelled has to end.
END_SECONDS = 5.0

P = ParamSpec("P")
T = TypeVar("T")


async def complete(work: Awaitable[T]) -> T:
    """Await `work` until it ends; a cancellation in the meantime is raised after that."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            # anyio scopes and the end of the loop cancel repeatedly.
            with suppress(asyncio.CancelledError):
                await asyncio.wait({future})
        if not future.cancelled():
            future.exception()  # Retrieved: asyncio would log it otherwise.
        raise


async def in_thread(
    executor: Executor | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a blocking function in a thread of `executor` and return its result.

    The thread has the context variables of the caller, as with `asyncio.to_thread`. A cancellation
    waits for the thread: a file must not be closed (and its descriptor reused) while a thread still
    writes to it.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    call = partial(context.run, function, *args, **kwargs)
    return await complete(loop.run_in_executor(executor, call))


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
    """Run `work` every `interval` seconds while the block runs; a failure is only logged.

    The first run is a second after the start, when the rest of the application is ready.
    """

    async def repeat() -> None:
        await asyncio.sleep(min(interval, 1.0))
        while True:
            try:
                await work()
            except Exception:
                logger.exception("%s failed; the next run is in %s s", work.__qualname__, interval)
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        # The connections that it uses are closed next.
        await asyncio.wait({task}, timeout=END_SECONDS)


async def notify(
    functions: Sequence[Callable[..., Awaitable[None]] | None], file_id: str, *arguments: object
) -> bool:
    """Call each function; return False if one failed, which is logged."""
    succeeded = True
    for function in filter(None, functions):
        try:
            await function(*arguments)
        except Exception:
            logger.exception("%r failed for %s", function, file_id)
            succeeded = False
    return succeeded
