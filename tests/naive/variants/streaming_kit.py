"""Small helpers that the careful half of the code base uses."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse

DRAINING = asyncio.Event()
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
SSE_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-cache, no-transform"}
SSE_DOC = {200: {"content": {"text/event-stream": {}}}}
BINARY_DOC = {200: {"content": {"application/octet-stream": {}}}}
CSV_DOC = {200: {"content": {"text/csv": {}}}}
_EVENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_NOTHING = object()


class ClosingStream(StreamingResponse):
    """A streaming response with a write deadline that closes its source at once."""

    write_idle = 20.0

    async def _put(self, send, message) -> None:
        async with asyncio.timeout(self.write_idle):
            await send(message)

    async def stream_response(self, send) -> None:
        try:
            await self._put(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in self.body_iterator:
                data = chunk if isinstance(chunk, bytes) else chunk.encode(self.charset)
                await self._put(send, {"type": "http.response.body", "body": data, "more_body": True})
            await self._put(send, {"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if (aclose := getattr(self.body_iterator, "aclose", None)) is not None:
                with anyio.move_on_after(2, shield=True):
                    await aclose()


class Primed:
    """An iterator whose first item was produced before the headers were sent."""

    def __init__(self, first, source) -> None:
        self._first, self._source = first, source

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._first is not _NOTHING:
            item, self._first = self._first, _NOTHING
            return item
        return await anext(self._source)

    async def aclose(self) -> None:
        await self._source.aclose()


async def primed(source) -> Primed:
    return Primed(await anext(source, _NOTHING), source)


async def limited_body(request: Request, limit: int, idle: float, min_rate: int) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "0")
    if int(declared) > limit:
        raise HTTPException(413, "body too large", headers={"Connection": "close"})
    source, total, started = request.stream(), 0, time.monotonic()
    while True:
        try:
            async with asyncio.timeout(idle):
                chunk = await anext(source, None)
        except TimeoutError:
            raise HTTPException(408, "body stalled", headers={"Connection": "close"}) from None
        if chunk is None:
            return
        total += len(chunk)
        if total > limit:
            raise HTTPException(413, "body too large", headers={"Connection": "close"})
        spent = time.monotonic() - started
        if spent > idle and total < spent * min_rate:
            raise HTTPException(408, "body too slow", headers={"Connection": "close"})
        yield chunk


def publish(part: Path, final: Path) -> None:
    with part.open("rb+") as handle:
        os.fsync(handle.fileno())
    os.replace(part, final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def discard(part: Path) -> None:
    with anyio.move_on_after(2, shield=True):
        await anyio.to_thread.run_sync(partial(part.unlink, missing_ok=True))


def content_disposition(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def sse_frame(data, event: str | None = None, event_id: str | None = None) -> str:
    lines = []
    if event is not None:
        if not _EVENT_NAME.match(event):
            raise ValueError("bad event name")
        lines.append(f"event: {event}")
    if event_id is not None:
        if not re.fullmatch(r"[0-9a-z-]+", event_id):
            raise ValueError("bad event id")
        lines.append(f"id: {event_id}")
    lines.append(f"data: {json.dumps(data)}")
    return "\n".join(lines) + "\n\n"
