"""Path operations as in FastAPI's documentation, whose source a test decides."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

#: The routes, and what the first item looks like in their formats.
KINDS = ("/sse", "/sse-sync", "/lines", "/lines-sync", "/streaming", "/streaming-sync", "/raw")
#: The media type of a form for `call`.
FORM = b"multipart/form-data; boundary=x"


class Source:
    """Yields the items of a test, and records its end."""

    def __init__(self, fail_after: int | None = None, last: int | None = None) -> None:
        self.error: Callable[[], Exception] = ZeroDivisionError
        #: The text of each item.
        self.item = "item"
        #: Seconds before each item, None to never wait.
        self.pause: float | None = 0.01
        self.begin(fail_after, last)

    def begin(self, fail_after: int | None = None, last: int | None = None) -> None:
        """Fail, or end, after a number of items."""
        self.fail_after = fail_after
        self.last = last
        self.sent = 0
        self.closed = threading.Event()

    async def items(self) -> AsyncGenerator[str]:
        try:
            for item in self._counted():
                if self.pause is not None:
                    await asyncio.sleep(self.pause)
                yield item
        finally:
            self._close()

    def items_sync(self) -> Generator[str]:
        try:
            for item in self._counted():
                time.sleep(self.pause or 0)
                yield item
        finally:
            self._close()

    def _counted(self) -> Generator[str]:
        while self.sent != self.last:
            if self.sent == self.fail_after:
                raise self.error()
            self.sent += 1
            yield self.item

    def _close(self) -> None:
        self.closed.set()

    def router(self) -> APIRouter:  # noqa: C901  # Many routes.
        router = APIRouter()

        @router.get("/sse", response_class=EventSourceResponse)
        async def sse() -> AsyncIterable[str]:
            async for item in self.items():
                yield item

        @router.get("/sse-sync", response_class=EventSourceResponse)
        def sse_sync() -> Iterable[str]:
            yield from self.items_sync()

        @router.get("/lines")
        async def lines() -> AsyncIterable[str]:
            async for item in self.items():
                yield item

        @router.get("/lines-sync")
        def lines_sync() -> Iterable[str]:
            yield from self.items_sync()

        @router.get("/streaming")
        async def streaming() -> StreamingResponse:
            return StreamingResponse(self.items(), media_type="text/plain")

        @router.get("/streaming-sync")
        def streaming_sync() -> StreamingResponse:
            return StreamingResponse(self.items_sync(), media_type="text/plain")

        @router.get("/raw", response_class=StreamingResponse)
        async def raw() -> AsyncIterable[str]:
            async for item in self.items():
                yield item

        return router


async def call(app: Any, path: str, form: bytes = b"") -> tuple[int, bytes]:
    """Call an application like the clients of tests, which start neither it nor a server."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST" if form else "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", b"test")],
        "server": ("test", 80),
    }
    if form:
        length = b"%d" % len(form)
        scope["headers"] += [(b"content-length", length), (b"content-type", FORM)]
    messages: list[Any] = []
    bodies = iter([form])

    async def receive() -> Any:
        body = next(bodies, None)
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        messages.append(message)

    with suppress(Exception):
        await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], body
