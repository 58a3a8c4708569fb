"""Live channels over redis publish/subscribe."""

import asyncio as aio
import json
import re
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
import redis.asyncio as aioredis
from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import StreamingResponse

from app_settings import Settings, get_settings
from streaming_kit import DRAINING, SSE_DOC, SSE_HEADERS, ClosingStream, sse_frame

router = APIRouter(prefix="/channels")
Config = Annotated[Settings, Depends(get_settings)]
Channel = Annotated[str, Path(pattern="^[a-z]{1,32}$")]
PING = ": ping\n"
ENTRY_ID = re.compile(r"[0-9]{1,15}-[0-9]{1,9}\Z")


def get_redis(settings: Config) -> aioredis.Redis:
    return aioredis.from_url(settings.redis_url, decode_responses=True)


Broker = Annotated[aioredis.Redis, Depends(get_redis)]


async def naive(broker, channel):
    pubsub = broker.pubsub()
    await pubsub.subscribe(channel)
    try:
        async for message in pubsub.listen():
            match message:
                case {"type": "message", "data": data}:
                    yield "data: {}\n\n".format(data)  # trap: R1, R3
                case _:
                    continue
    finally:
        await pubsub.unsubscribe(channel)
        await pubsub.close()


async def with_heartbeat(source):
    iterator = source.__aiter__()
    while True:
        try:
            yield await aio.wait_for(anext(iterator), timeout=15)  # trap: R5
        except aio.TimeoutError:
            yield PING
        except StopAsyncIteration:
            return


async def with_scope(source, seconds):
    it = aiter(source)
    while True:
        with anyio.move_on_after(seconds):  # trap: R6
            async for item in it:  # missed: R5
                yield item
            return
        yield PING


async def bounded(source, seconds):
    async with aio.timeout(seconds):  # trap: R6
        async for item in source:
            yield item


async def merged(*sources):
    send, receive = anyio.create_memory_object_stream(100)

    async def copy(source, out):
        async with out:
            async for item in source:
                await out.send(item)

    async with anyio.create_task_group() as group:  # trap: R6
        for source in sources:
            group.start_soon(copy, source, send.clone())
        send.close()
        async for item in receive:
            yield item


@router.get("/{channel}")  # trap: E7
async def channel_events(channel: Channel, broker: Broker):
    body = bounded(with_heartbeat(naive(broker, channel)), 3600)
    return StreamingResponse(body, media_type="text/event-stream")


@router.get("/pair/{first}/{second}")  # trap: E7
async def pair(first: Channel, second: Channel, broker: Broker):
    body = with_scope(merged(naive(broker, first), naive(broker, second)), 20)
    return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@asynccontextmanager
async def open_group():
    """A context manager may hold a task group: enter and exit run in one frame of the caller."""
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def heartbeats(source, seconds):
    """The pending step of the source is kept when a heartbeat is due."""
    step = None
    yield ":\n"
    try:
        while not DRAINING.is_set():
            step = step or aio.ensure_future(anext(source, None))
            done, _ = await aio.wait({step}, timeout=seconds)
            if not done:
                yield ":\n"
                continue
            item, step = step.result(), None
            if item is None:
                break
            yield item
        yield "retry: 2500\n" + sse_frame({}, event="bye")
    except Exception:
        yield sse_frame({"title": "Internal error", "status": 500}, event="error")
        raise
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2):
            if step is not None:
                step.cancel()
                await aio.wait({step})
            await source.aclose()


def as_pair(entry_id: str) -> list[int]:
    return [int(part) for part in entry_id.split("-")]


async def from_log(broker, channel, last_id):
    """Entries of a redis stream have ids, so a client can resume."""
    oldest = await broker.xrange(channel, count=1)
    newest = await broker.xrevrange(channel, count=1)
    cursor = newest[0][0] if newest else "0-0"
    if last_id is not None:
        if ENTRY_ID.match(last_id) and oldest and as_pair(oldest[0][0]) <= as_pair(last_id) <= as_pair(cursor):
            cursor = last_id
        else:
            yield sse_frame({"reason": "gap"}, event="reset")
    while not DRAINING.is_set():
        for _, entries in await broker.xread({channel: cursor}, count=100, block=1000) or ():
            for cursor, fields in entries:
                yield sse_frame(json.loads(fields["json"]), event_id=cursor)


@router.get("/v2/{channel}", response_class=ClosingStream, responses=SSE_DOC)
async def channel_v2(channel: Channel, broker: Broker, last_event_id: Annotated[str | None, Header()] = None):
    body = heartbeats(from_log(broker, channel, last_event_id), 15)
    return ClosingStream(body, media_type="text/event-stream", headers=SSE_HEADERS)


@router.post("/v2/{channel}")
async def post_message(channel: Channel, item: dict, broker: Broker):
    async with aio.timeout(5):
        entry = await broker.xadd(channel, {"json": json.dumps(item)}, maxlen=1000)
    return {"id": entry}
