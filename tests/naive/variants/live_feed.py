"""Server-sent events from an in-process hub."""

import asyncio
import itertools
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from streaming_kit import DRAINING, SSE_DOC, SSE_HEADERS, ClosingStream, sse_frame

log = logging.getLogger(__name__)
router = APIRouter(prefix="/feed")
EVENTS = "text/event-stream"


class Hub:
    """First generation: one queue per client."""

    def __init__(self) -> None:
        self.clients: list[asyncio.Queue] = []

    def subscribe(self) -> asyncio.Queue:
        queue: asyncio.Queue = asyncio.Queue()  # trap: R8
        self.clients.append(queue)  # trap: R9
        return queue

    async def publish(self, message: str) -> None:
        for queue in self.clients:
            await queue.put(message)


class Ring:
    """Second generation: readers are cursors into one bounded ring."""

    def __init__(self, size: int = 1000) -> None:
        self.epoch, self.first = "e1", 0
        self.items: deque = deque(maxlen=size)
        self.changed = asyncio.Condition()

    async def publish(self, message: dict) -> None:
        async with self.changed:
            self.first += len(self.items) == self.items.maxlen
            self.items.append(message)
            self.changed.notify_all()

    async def wait(self, cursor: int, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), self.changed:
                await self.changed.wait_for(lambda: cursor < self.first + len(self.items) or DRAINING.is_set())
        except TimeoutError:
            return

    def read(self, cursor: int) -> list:
        return list(itertools.islice(self.items, cursor - self.first, None))


hub, ring = Hub(), Ring()


def get_ring() -> Ring:
    return ring


def frame(text: str, event: str = "message") -> str:
    return "event: " + event + "\ndata: " + text + "\n\n"  # trap: R1


@router.post("/say")
async def say(msg: Annotated[str, Query()], channel: str = "message"):
    await hub.publish(frame(msg, channel))
    return {"clients": len(hub.clients)}


@router.get("/events")  # trap: E7
async def events():
    queue = hub.subscribe()

    async def stream():
        while True:
            text = await queue.get()
            yield f"data: {text}\n\n"  # trap: R1, R3

    return StreamingResponse(stream(), media_type=EVENTS)


@router.get("/latest")  # trap: E7
async def latest(request: Request, count: int = 10):
    async def stream():
        queue = hub.subscribe()
        try:
            for _ in range(count):
                if await request.is_disconnected():
                    break
                yield "data: %s\n\n" % json.dumps(await queue.get())  # trap: R2, R3
        except Exception:  # trap: R13; missed: D13
            log.exception("feed failed")

    return StreamingResponse(stream(), headers={"content-type": EVENTS})


def start_cursor(source: Ring, last_id: str | None) -> tuple[int, bool]:
    end = source.first + len(source.items)
    epoch, _, offset = (last_id or "").partition("-")
    if epoch != source.epoch or not offset.isdecimal():
        return end, last_id is not None
    cursor = int(offset) + 1
    return (cursor, False) if source.first <= cursor <= end else (end, True)


async def follow(source: Ring, last_id: str | None) -> AsyncIterator[str]:
    cursor, gap = start_cursor(source, last_id)
    yield ":\n"
    if gap:
        yield sse_frame({"reason": "gap"}, event="reset")
    try:
        while not DRAINING.is_set():
            await source.wait(cursor, 2)
            if cursor < source.first:
                cursor = source.first
                yield sse_frame({"reason": "slow"}, event="reset")
            batch = source.read(cursor)
            for item in batch:
                yield sse_frame(item, event_id=f"{source.epoch}-{cursor}")
                cursor += 1
            if not batch:
                yield ":\n"
    except Exception:
        log.exception("feed failed")
        yield sse_frame({"title": "Internal error", "status": 500}, event="error")
        raise
    yield "retry: 3000\nevent: bye\ndata: {}\n\n"


@router.get("/v2/events", response_class=ClosingStream, responses=SSE_DOC)
async def events_v2(
    source: Annotated[Ring, Depends(get_ring)],
    last_event_id: Annotated[str | None, Header()] = None,
):
    return ClosingStream(follow(source, last_event_id), media_type=EVENTS, headers=SSE_HEADERS)


@router.post("/v2/say")
async def say_v2(msg: Annotated[str, Query(max_length=500)], source: Annotated[Ring, Depends(get_ring)]):
    await source.publish({"text": msg})
    return Response(status_code=204)
