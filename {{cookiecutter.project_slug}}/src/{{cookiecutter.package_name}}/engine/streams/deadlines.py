"""Deadlines of sends, and the end of a response whose client leaves.

A timeout held across a `yield` would cancel the task that runs the generator at that moment. So the
code that iterates a source sets the timeouts, for one await at a time; generators set none.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send

from ..kernel.body import Deadline
from ..kernel.exchange import SlowClient
from ..kernel.work import CLEANUP_SECONDS


async def send_within(send: Send, message: Message, limit: float) -> None:
    """Send a message; raise SlowClient if the client does not accept it in `limit` seconds."""
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

    The block is cancelled once, not at every further await: a `finally` that awaits runs to its
    end, for at most CLEANUP_SECONDS. This calls `receive`, because ASGI servers do not raise from
    `send` after a disconnect; so use it only for requests whose body has been read.
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
