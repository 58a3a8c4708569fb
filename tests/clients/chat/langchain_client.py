"""langchain-openai."""

from collections.abc import Callable, Iterator
from typing import Any

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from scenarios import (
    RELAY,
    SERVICE,
    TEXT,
    TEXTS,
    TOOL,
    cut,
    failing,
    gated,
    halfway,
    plan,
    scenario,
    tooled,
)  # fmt: skip


def model(address: str = SERVICE, key: str | None = None) -> ChatOpenAI:
    return ChatOpenAI(
        model="echo",
        base_url=f"{address}/v1",
        api_key="none",
        max_retries=0,
        stream_usage=True,
        default_headers={"Idempotency-Key": key} if key else None,
    )


def pieces_of(
    stream: Iterator[Any],
    seen: Callable[[list[str]], object] = bool,
    pieces: list[str] | None = None,
) -> list[str]:
    pieces = [] if pieces is None else pieces
    for chunk in stream:
        if chunk.content:
            pieces.append(chunk.content)
            seen(pieces)
    return pieces


def stream() -> object:
    chunks = list(model().stream(plan(pieces=TEXTS).user))
    whole = sum(chunks[1:], chunks[0])
    tokens = whole.usage_metadata["total_tokens"]
    finish = whole.response_metadata["finish_reason"]
    return ["".join(pieces_of(iter(chunks))) == TEXT, finish, tokens > 0]


def whole() -> object:
    answer = model().invoke(plan(pieces=TEXTS).user)
    finish = answer.response_metadata["finish_reason"]
    return [answer.content == TEXT, finish, answer.usage_metadata["total_tokens"] > 0]


def stop() -> object:
    script = gated()
    chunks = model().stream(script.user)
    next(chunk for chunk in chunks if "two " in chunk.content)
    chunks.close()
    return script.ended()["ended"]


def error() -> object:
    pieces: list[str] = []
    try:
        pieces_of(model().stream(failing().user), pieces=pieces)
    except Exception as error:
        return ["".join(pieces), str(error)]
    return None


def lost() -> object:
    script, name = gated(), None
    try:
        pieces_of(model(RELAY, script.name).stream(script.user), halfway(cut))
    except Exception as error:
        name = type(error).__name__
    again = model(RELAY, script.name).stream(script.user)
    pieces = pieces_of(again, halfway(script.release))
    return [name, "".join(pieces), script.told()["started"]]


def again() -> object:
    script = plan(pieces=["one"])
    found = ["".join(pieces_of(model(key=script.name).stream(script.user))) for _ in range(2)]
    return [*found, script.told()["started"]]


def tools() -> object:
    script = tooled()
    chunks = list(model().bind_tools([TOOL]).stream(script.messages_with_image))
    whole = sum(chunks[1:], chunks[0])
    (call,) = whole.tool_calls
    found = [whole.content, whole.response_metadata["finish_reason"], call["id"], call["name"]]
    return [*found, call["args"], script.told()["asked"]]


for name, work in {
    "stream": stream, "whole": whole, "stop": stop, "error": error, "cut": lost, "again": again,
    "tools": tools,
}.items():  # fmt: skip
    scenario(name, work)
