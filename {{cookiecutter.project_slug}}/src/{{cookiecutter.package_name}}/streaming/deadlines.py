"""Deadlines that open and close in one frame.

A timeout or task group held across a `yield` cancels whoever happens to run the generator at that
moment. So generators hold none: the driver that iterates them does, around one await at a time.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send

from .outcomes import SlowClient

#: How long a source may take to clean up after its client has left.
CLEANUP_SECONDS = 5.0


async def send_within(send: Send, message: Message, limit: float) -> None:
    """Send one ASGI message; raise SlowClient when the peer does not take it in `limit` seconds."""
    try:
        async with asyncio.timeout(limit):
            await send(message)
    except TimeoutError:
        raise SlowClient(limit) from None


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
