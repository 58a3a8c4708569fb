"""Chat completions, which OpenAI and many other services and clients understand.

Source: OpenAI API reference, "Chat completions" and "Streaming".
"""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool

from ..messages import Message
from ..runs.readers import End
from .events import ChatEvent, Reasoning, Text, Usage, chat_event
from .readers import ChatReader, Record, sse_json, to_json
from .requests import ChatMessages, ChatRequest, ChatTools, Name, call_of


class ChatCompletionRequest(ChatRequest):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[ChatMessages, Field(min_length=1)]
    model: Name = ""
    tools: ChatTools | None = None
    stream: StrictBool | None = False
    stream_options: dict[str, Any] | None = None
    n: Literal[1] | None = None

    def parameters(self) -> dict[str, Any]:
        options = {"model": self.model, **(self.model_extra or {})}
        return {"messages": self.messages, "tools": self.tools or [], "options": options}

    def reader(self, run_id: str) -> "ChunkReader":
        """Return the reader of the run for `stream`."""
        options = self.stream_options or {}
        return ChunkReader(run_id, self.model, options.get("include_usage") is True)

    def render(self, run_id: str) -> Callable[[list[Message]], Record]:
        """Return the function that makes the response without `stream`."""
        return lambda messages: _completion(run_id, self.model, messages)


class ChunkReader(ChatReader):
    """Chunks of a chat completion; the last event is `[DONE]`, or has an `error`."""

    def __init__(self, run_id: str, model: str, include_usage: bool = False) -> None:
        super().__init__()
        self._head = _head(run_id, model, "chat.completion.chunk")
        self._include_usage = include_usage
        # Most events are texts, so all but the text is encoded once.
        content = b'"content":'
        before, _, after = sse_json(self._chunk({"content": 0})).partition(content + b"0")
        self._before, self._after = before + content, after

    def encode_item(self, item: ChatEvent) -> bytes:
        if isinstance(item, Text):
            return self._before + to_json(item.text).encode() + self._after
        return super().encode_item(item)

    def begin(self, retry: float) -> bytes:
        return sse_json(self._chunk({"role": "assistant", "content": ""}))

    def records(self, item: ChatEvent) -> Iterator[Record]:
        if isinstance(item, Reasoning):
            yield self._chunk({"reasoning_content": item.text})

    def ended(self, end: End) -> bytes:
        if end.status != "complete":
            error = {"message": end.detail, "type": "server_error", "code": end.status}
            return sse_json({"error": {**error, "param": None}})
        # Not earlier: the client would run the tools that the service itself has run.
        records = [
            self._chunk({"tool_calls": [{"index": index, **call}]})
            for index, call in enumerate(_calls(self))
        ]
        records.append(self._chunk({}, self.reason))
        if self._include_usage and self.usage is not None:
            records.append({**self._head, "choices": [], "usage": _usage(self.usage)})
        return b"".join([sse_json(record) for record in records]) + b"data: [DONE]\n\n"

    def _chunk(self, delta: Record, reason: str | None = None) -> Record:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _completion(run_id: str, model: str, messages: list[Message]) -> Record:
    state = ChatReader()
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    for item in (chat_event(message) for message in messages):
        if isinstance(item, Text | Reasoning):
            texts[item.type].append(item.text)
        elif item is not None:
            state.note(item)
    text, reasoning = "".join(texts["text"]), "".join(texts["reasoning"])
    calls = _calls(state)
    message: Record = {"role": "assistant", "content": text or (None if calls else "")}
    message |= {"reasoning_content": reasoning} if reasoning else {}
    message |= {"tool_calls": calls} if calls else {}
    choice = {"index": 0, "message": message, "finish_reason": state.reason}
    usage = {"usage": _usage(state.usage)} if state.usage is not None else {}
    return {**_head(run_id, model, "chat.completion"), "choices": [choice], **usage}


def _head(run_id: str, model: str, kind: str) -> Record:
    return {
        "id": f"chatcmpl-{run_id}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _calls(state: ChatReader) -> list[Record]:
    return [
        call_of(call_id, name, "".join(pieces)) for call_id, (name, *pieces) in state.calls.items()
    ]


def _usage(usage: Usage) -> Record:
    total = usage.prompt_tokens + usage.completion_tokens
    return {**usage.model_dump(exclude={"type"}), "total_tokens": total}
