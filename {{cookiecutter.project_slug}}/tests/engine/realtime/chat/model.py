"""A model whose answer the test chooses, and clients of its formats."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio.to_thread
import httpx
from fastapi import Request, Response

from {{cookiecutter.package_name}}.engine.kernel import client_of
from {{cookiecutter.package_name}}.engine.realtime import (
    IdempotencyKey,
    RunResult,
    RunRouter,
    RunsDep,
    RunStream,
)
from {{cookiecutter.package_name}}.engine.realtime.chat import (
    ChatCompletionRequest,
    ChatMessages,
    ChatTools,
    RunAgentInput,
    UIChatRequest,
    UIMessageReader,
    compact,
)

from ...peer import PATIENCE
from ...service import Service

OPENAI, UI, AG_UI = "/model/v1", "/model/ui", "/model/ag-ui"


class Model:
    """The routes of a chat whose run yields the items of `say`; None ends it."""

    def __init__(self) -> None:
        self.router = RunRouter()
        self.asked: list[dict[str, Any]] = []
        self._words: asyncio.Queue[Any] = asyncio.Queue()
        self._started, self._closed = threading.Event(), threading.Event()

        @self.router.run("/runs/model", compact=compact)
        async def model(
            messages: ChatMessages, tools: ChatTools, options: dict[str, Any]
        ) -> AsyncGenerator[Any]:
            self.asked.append({"messages": messages, "tools": tools, "options": options})
            self._started.set()
            try:
                while (word := await self._words.get()) is not None:
                    if isinstance(word, Exception):
                        raise word
                    yield word
            finally:
                self._closed.set()

        @self.router.post(OPENAI)
        async def openai(
            body: ChatCompletionRequest,
            request: Request,
            runs: RunsDep,
            once: IdempotencyKey = None,
        ) -> Response:
            run = await runs.attach(model, body.parameters(), client_of(request), once=once)
            leave = once is None
            if body.stream:
                return RunStream(runs, run.id, reader=body.reader(run.id), stop_on_leave=leave)
            return RunResult(runs, run.id, body.render(run.id), stop_on_leave=leave)

        @self.router.post(UI)
        async def ui(body: UIChatRequest, request: Request, runs: RunsDep) -> Response:
            parameters, client = body.parameters(), client_of(request)
            run = await runs.attach(model, parameters, client, once=body.once, key=body.id)
            return RunStream(runs, run.id, reader=body.reader(run.id))

        @self.router.get(UI + "/{chat}/stream")
        async def resume(chat: str, request: Request, runs: RunsDep) -> Response:
            run_id = await runs.active(client_of(request), chat)
            if run_id is None:
                return Response(status_code=204)
            return RunStream(runs, run_id, reader=UIMessageReader(run_id))

        @self.router.post(AG_UI)
        async def ag_ui(body: RunAgentInput, request: Request, runs: RunsDep) -> Response:
            run = await runs.attach(model, body.parameters(), client_of(request))
            return RunStream(runs, run.id, reader=body.reader(run.id))

    async def say(self, service: Service, *words: Any) -> None:
        def put() -> None:
            for word in words:
                self._words.put_nowait(word)

        await service.call(put)

    async def started(self) -> bool:
        """Wait until the run has begun."""
        return await anyio.to_thread.run_sync(self._started.wait, PATIENCE)

    async def closed(self) -> bool:
        """Wait until the run has ended."""
        return await anyio.to_thread.run_sync(self._closed.wait, PATIENCE)


def question(path: str, text: str = "Hello", **members: Any) -> dict[str, Any]:
    """Return a request in the format of a path."""
    if path == OPENAI:
        messages: list[Any] = [{"role": "user", "content": text}]
        return {"messages": messages, "stream": True, **members}
    if path == AG_UI:
        messages = [{"id": "1", "role": "user", "content": text}]
        return {"threadId": "t", "runId": "r", "messages": messages, **members}
    messages = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": text}]}]
    return {"id": "c", "messages": messages, **members}


def raw(service: Service, path: str, *fields: str, **members: Any) -> bytes:
    """Return the bytes of a request."""
    body = json.dumps(question(path, **members))
    key = service.client().headers.get("Authorization", "")
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def events_of(response: httpx.Response) -> AsyncIterator[Any]:
    """Return the JSON of the events as they arrive; `[DONE]` is a string."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            text = line.removeprefix("data: ")
            yield text if text == "[DONE]" else json.loads(text)


async def until(text: str, events: AsyncIterator[Any]) -> list[Any]:
    """Return the events until their text is this one."""
    found: list[Any] = []
    while text_of(found) != text:
        found.append(await anext(events))
    return found


def text_of(events: list[Any]) -> str:
    """Return the text of an answer in any format."""
    found = ""
    for event in events:
        if "choices" in event:
            found += event["choices"][0]["delta"].get("content") or ""
        elif "type" in event and event["type"] in ("text-delta", "TEXT_MESSAGE_CONTENT"):
            found += event["delta"]
    return found


async def ask(service: Service, path: str, **members: Any) -> list[Any]:
    """Send a request and return all events of the answer."""
    headers = members.pop("headers", {})
    async with service.client() as client:
        body = question(path, **members)
        async with client.stream("POST", path, json=body, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            return [event async for event in events_of(response)]
