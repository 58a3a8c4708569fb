"""Events: a queue per subscriber, a list of sockets, and runs that end with their request."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, WebSocket
from fastapi.encoders import jsonable_encoder
from fastapi.responses import StreamingResponse

from streaming_service.engine.realtime.runs.router import RUNS
from streaming_service.engine.realtime.subscription import Subscription

router = APIRouter()

#: Tests replace this function to make a stream fail half-way.
TAKE = Subscription.take


def work() -> None:
    if Subscription.take is not TAKE:
        Subscription.take(None)


class Topics:
    """All subscribers; none is ever removed."""

    def __init__(self) -> None:
        self.subscribers: list[Any] = []
        self.queues: dict[str, list[asyncio.Queue[str]]] = defaultdict(list)
        self.sockets: dict[str, list[WebSocket]] = defaultdict(list)

    def subscribe(self, topic: str) -> "asyncio.Queue[str]":
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.subscribers.append(queue)
        self.queues[topic].append(queue)
        return queue

    async def publish(self, topic: str, text: str) -> None:
        for queue in self.queues[topic]:
            queue.put_nowait(text)
        for socket in self.sockets[topic]:
            await socket.send_text(json.dumps({"type": "event", "data": text}))


@router.post("/topics/{topic}/events", status_code=202)
async def publish(topic: str, request: Request) -> Any:
    await request.app.state.topics.publish(topic, (await request.body()).decode())
    return {"id": "0-0", "topic": topic}


@router.get("/topics/{topics}/events")
async def subscribe(topics: str, request: Request) -> StreamingResponse:
    queue = request.app.state.topics.subscribe(topics)
    settings = request.app.state.settings.realtime
    in_lines = "jsonl" in request.headers.get("accept", "")

    async def source() -> AsyncIterator[str]:
        while True:
            text = await queue.get()
            work()
            yield json.dumps({"data": text}) + "\n" if in_lines else f"data: {text}\n\n"

    async def events() -> AsyncIterator[str]:
        yield "\n" if in_lines else "data: hello\n\n"
        texts = source()
        try:
            async with asyncio.timeout(settings.max_age):
                while True:
                    try:
                        yield await asyncio.wait_for(anext(texts), settings.heartbeat)
                    except TimeoutError:
                        yield "\n" if in_lines else ":\n"
        except (Exception, StopAsyncIteration) as error:
            print(error)

    return StreamingResponse(events(), media_type="text/event-stream")


@router.websocket("/topics/{topics}/ws")
async def converse(socket: WebSocket, topics: str) -> None:
    manager: Topics = socket.app.state.topics
    await socket.accept()
    manager.sockets[topics].append(socket)
    manager.subscribers.append(socket)
    await socket.send_text(json.dumps({"type": "hello"}))
    while True:
        command = json.loads(await socket.receive_text())
        if command["type"] == "publish":
            await socket.send_text(json.dumps({"type": "ack"}))
            work()
            await manager.publish(command["topic"], command["data"])
        else:
            await socket.send_text(json.dumps(command))


@router.post("/runs/{name}", status_code=201)
async def start(name: str, request: Request) -> Any:
    return {"id": name, "parameters": await request.json()}


@router.get("/runs/{name}/events")
async def follow(name: str) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        try:
            async for each in RUNS[name]():
                event = each if isinstance(each, str) else json.dumps(jsonable_encoder(each))
                yield f"data: {event}\n\n"
        except Exception as error:
            print(error)

    return StreamingResponse(events(), media_type="text/event-stream")


@router.post("/runs/{name}/stop", status_code=202)
async def stop(name: str) -> None:
    """Not supported: the task of a run is unknown."""
