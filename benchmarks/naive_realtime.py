"""Events as in tutorials, with a queue per subscriber. For measurements only.

python -m uvicorn naive_realtime:app
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import contextmanager

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sse_starlette import sse

app = FastAPI()
queues: set[asyncio.Queue[str]] = set()


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "live"}


@app.post("/publish", status_code=202)
async def publish(request: Request) -> dict[str, int]:
    data = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(data)
    return {"subscribers": len(queues)}


@contextmanager
def subscribed() -> Generator[asyncio.Queue[str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        yield queue
    finally:
        queues.discard(queue)


@app.get("/native", response_class=EventSourceResponse)
async def native() -> AsyncIterable[ServerSentEvent]:
    with subscribed() as queue:
        while True:
            yield ServerSentEvent(raw_data=await queue.get())


@app.get("/sse-starlette")
async def sse_starlette() -> sse.EventSourceResponse:
    async def events() -> AsyncGenerator[dict[str, str]]:
        with subscribed() as queue:
            while True:
                yield {"data": await queue.get()}

    return sse.EventSourceResponse(events())


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def events() -> AsyncGenerator[str]:
        with subscribed() as queue:
            while True:
                yield f"data: {await queue.get()}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
