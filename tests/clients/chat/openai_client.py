"""openai: the synchronous and the asynchronous client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from openai import APIError, APIStatusError, AsyncOpenAI, OpenAI  # type: ignore[import-not-found]
from scenarios import (
    RELAY,
    SERVICE,
    TEXT,
    TEXTS,
    TOOL,
    Plan,
    cut,
    failing,
    gated,
    halfway,
    plan,
    scenario,
    tooled,
)  # fmt: skip

Stream = Callable[..., AsyncIterator[Any]]
#: The pieces, the reason of the end, and the number of tokens.
Found = tuple[list[str], str | None, int | None]


def options(address: str) -> dict[str, Any]:
    return {"base_url": f"{address}/v1", "api_key": "none", "max_retries": 0}


def request(script: Plan, key: str | None, more: dict[str, Any]) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    chosen = {"model": "echo", "messages": script.messages, "stream": True}
    return chosen | {"extra_headers": headers} | more


async def synchronous(
    address: str, script: Plan, key: str | None = None, **more: object
) -> AsyncIterator[Any]:
    with OpenAI(**options(address)) as client:
        answer = client.chat.completions.create(**request(script, key, more))
        if more.get("stream") is False:
            yield answer
            return
        with answer as chunks:
            for chunk in chunks:
                yield chunk


async def asynchronous(
    address: str, script: Plan, key: str | None = None, **more: object
) -> AsyncIterator[Any]:
    async with AsyncOpenAI(**options(address)) as client:
        answer = await client.chat.completions.create(**request(script, key, more))
        if more.get("stream") is False:
            yield answer
            return
        async with answer as chunks:
            async for chunk in chunks:
                yield chunk


async def read(
    chunks: AsyncIterator[Any], pieces: list[str], seen: Callable[[list[str]], object] = bool
) -> Found:
    finish, tokens = None, None
    async for chunk in chunks:
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            if choice.delta.content:
                pieces.append(choice.delta.content)
                seen(pieces)
        if chunk.usage:
            tokens = chunk.usage.total_tokens
    return pieces, finish, tokens


async def stream(ask: Stream) -> object:
    chunks = ask(SERVICE, plan(pieces=TEXTS), stream_options={"include_usage": True})
    pieces, finish, tokens = await read(chunks, [])
    return ["".join(pieces) == TEXT, finish, bool(tokens)]


async def whole(ask: Stream) -> object:
    async for answer in ask(SERVICE, plan(pieces=TEXTS), stream=False):
        (choice,) = answer.choices
        content = choice.message.content
        return [content == TEXT, choice.finish_reason, answer.usage.total_tokens > 0]
    return None


async def stop(ask: Stream) -> object:
    script = gated()
    async with aclosing(ask(SERVICE, script)) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            if any("two " in (choice.delta.content or "") for choice in chunk.choices):
                break
    return script.ended()["ended"]


async def error(ask: Stream) -> object:
    pieces: list[str] = []
    try:
        await read(ask(SERVICE, failing()), pieces)
    except APIError as error:
        return ["".join(pieces), error.message, error.body["message"]]
    return None


async def failed(ask: Stream) -> object:
    try:
        await anext(ask(SERVICE, failing(), stream=False))
    except APIStatusError as error:
        return [error.status_code, error.body["detail"]]
    return None


async def lost(ask: Stream) -> object:
    script = gated()
    try:
        await read(ask(RELAY, script, script.name), [], halfway(cut))
    except Exception as error:
        name = type(error).__name__
    pieces, finish, _ = await read(ask(RELAY, script, script.name), [], halfway(script.release))
    return [name, "".join(pieces), finish, script.told()["started"]]


async def again(ask: Stream) -> object:
    script = plan(pieces=["one"])
    found = await asyncio.gather(*(read(ask(SERVICE, script, script.name), []) for _ in range(2)))
    found.append(await read(ask(SERVICE, script, script.name), []))
    return [*("".join(pieces) for pieces, _, _ in found), script.told()["started"]]


async def tools(_: Stream) -> object:
    script = tooled()
    async with AsyncOpenAI(**options(SERVICE)) as client:
        messages = script.messages_with_image
        asking = client.chat.completions.stream(model="echo", messages=messages, tools=[TOOL])
        async with asking as events:
            (choice,) = (await events.get_final_completion()).choices
    (call,) = choice.message.tool_calls
    found = [choice.message.content, choice.finish_reason, call.id, call.function.name]
    return [*found, call.function.arguments, script.told()["asked"]]


SCENARIOS = {
    "stream": stream, "whole": whole, "stop": stop, "error": error, "cut": lost, "again": again,
    "tools": tools, "failed": failed,
}  # fmt: skip

for ask in (synchronous, asynchronous):
    for name, work in SCENARIOS.items():
        scenario(f"{ask.__name__} {name}", partial(asyncio.run, work(ask)))
