"""Chat: answers of a model, which continue when their client disconnects.

* `POST /v1/chat/completions`, `GET /v1/models`: clients of OpenAI.
* `POST /chat`, `GET /chat/{id}/stream`, `POST /chat/{id}/stop`: `useChat` of the AI SDK.
* `POST /ag-ui`: clients of AG-UI.
* `POST /runs/chat`: any other client, which follows the answer as a run.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import Depends, Request, Response, Security
from pydantic import Field

from .engine.kernel import Admission, client_of, current_principal, whole_request
from .engine.realtime import IdempotencyKey, RunResult, RunRouter, RunsDep, RunStream
from .engine.realtime.chat import (
    ChatCompletionRequest,
    ChatEvent,
    ChatMessages,
    ChatTools,
    RunAgentInput,
    Text,
    ToolCall,
    UIChatRequest,
    UIMessageReader,
    Usage,
    compact,
    text_of,
)

router = RunRouter(tags=["chat"])

MODEL = "echo"
START = Depends(Admission("realtime", "runs:start"))
FOLLOW = Depends(Admission("realtime", "runs:follow"))
OBJECT = {"type": "object"}
EVENTS = {"text/event-stream": {"itemSchema": OBJECT}}
STREAM: dict[int | str, Any] = {200: {"content": EVENTS}}
NOTHING: dict[int | str, Any] = {204: {"description": "No answer is being generated."}}


@router.run("/runs/chat", compact=compact)
async def chat(
    messages: ChatMessages,
    tools: Annotated[ChatTools, Field(default_factory=list)],
    options: Annotated[dict[str, Any], Field(default_factory=dict)],
) -> AsyncGenerator[ChatEvent]:
    """Answer the last message."""
    # YOUR MODEL: replace the rest of this function by a request to a provider. `messages` and
    # `tools` have the form of OpenAI, and `options` contains the other members of the request.
    # This one repeats the message, or calls a tool that it names.
    prompt = text_of(messages[-1]) if messages else ""
    words = prompt.split()
    named = {tool["function"]["name"] for tool in tools}.intersection(words)
    if named and messages[-1]["role"] == "user":
        arguments = json.dumps({"input": prompt})
        yield ToolCall(id=f"call_{secrets.token_hex(8)}", name=min(named), arguments=arguments)
    else:
        size = max(4, len(prompt) // 200)
        for begin in range(0, len(prompt), size):
            await asyncio.sleep(0.02)
            yield Text(text=prompt[begin : begin + size])
    yield Usage(prompt_tokens=len(words), completion_tokens=len(words))


@router.post(
    "/v1/chat/completions",
    response_class=Response,
    responses={200: {"content": {**EVENTS, "application/json": {"schema": OBJECT}}}},
    dependencies=[START],
)
async def completions(
    body: ChatCompletionRequest, request: Request, runs: RunsDep, once: IdempotencyKey = None
) -> Response:
    """Answer as OpenAI does: the answer is stopped when the client leaves.

    With an `Idempotency-Key` it continues, and a repeated request receives the same answer.
    """
    run = await runs.attach(chat, body.parameters(), client_of(request), once=once)
    leave = once is None
    if body.stream:
        return RunStream(runs, run.id, reader=body.reader(run.id), stop_on_leave=leave)
    return RunResult(runs, run.id, body.render(run.id), stop_on_leave=leave)


@router.get("/v1/models", dependencies=[Security(current_principal, scopes=["runs:start"])])
async def models() -> dict[str, Any]:
    """List the models."""
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "service"}
    return {"object": "list", "data": [model]}


@router.post("/chat", response_class=Response, responses=STREAM, dependencies=[START])
async def ui_chat(body: UIChatRequest, request: Request, runs: RunsDep) -> RunStream:
    """Answer a message of `useChat`; the answer continues when the client leaves."""
    parameters, client = body.parameters(), client_of(request)
    run = await runs.attach(chat, parameters, client, once=body.once, key=body.id)
    return RunStream(runs, run.id, reader=body.reader(run.id))


@router.get(
    "/chat/{chat_id}/stream",
    response_class=Response,
    responses=STREAM | NOTHING,
    dependencies=[FOLLOW],
)
async def resume_ui_chat(chat_id: str, request: Request, runs: RunsDep) -> Response:
    """Send the answer that is being generated, from its beginning; 204 if there is none."""
    run_id = await runs.active(client_of(request), chat_id)
    if run_id is None:
        return Response(status_code=204)
    return RunStream(runs, run_id, reader=UIMessageReader(run_id))


@router.post(
    "/chat/{chat_id}/stop",
    status_code=204,
    dependencies=[
        Security(current_principal, scopes=["runs:start"]),
        Depends(whole_request),
    ],
)
async def stop_ui_chat(chat_id: str, request: Request, runs: RunsDep) -> None:
    """Stop the answer that is being generated."""
    run_id = await runs.active(client_of(request), chat_id)
    if run_id is not None:
        await runs.stop(run_id)


@router.post("/ag-ui", response_class=Response, responses=STREAM, dependencies=[START])
async def ag_ui(
    body: RunAgentInput, request: Request, runs: RunsDep, once: IdempotencyKey = None
) -> RunStream:
    """Answer as an agent of AG-UI, like the route for clients of OpenAI."""
    parameters, client = body.parameters(), client_of(request)
    run = await runs.attach(chat, parameters, client, once=once, key=body.threadId)
    return RunStream(runs, run.id, reader=body.reader(run.id), stop_on_leave=once is None)
