"""The UI message stream of the AI SDK, and the requests of its `useChat`.

Source: AI SDK 5 and 6, "Stream protocol" (data streams) and `UIMessage`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic_core
from pydantic import FailFast, Field
from typing_extensions import TypedDict

from ..runs.readers import End
from ..streams import STREAMED
from .readers import BlockReader, Record, Step, sse_json
from .requests import ChatRequest, Name, Objects, call_of


class UIMessage(TypedDict):
    """A message of `useChat`."""

    id: Name
    role: Literal["system", "user", "assistant"]
    parts: Objects


class UIChatRequest(ChatRequest):
    """The request of `useChat`; what its `body` adds are options."""

    id: Annotated[Name, Field(min_length=1)]
    messages: Annotated[list[UIMessage], Field(min_length=1), FailFast()]
    trigger: str = "submit-message"
    messageId: str | None = None  # noqa: N815  # The name of the member.

    def parameters(self) -> dict[str, Any]:
        messages = [each for message in self.messages for each in _neutral(message)]
        return {"messages": messages, "tools": [], "options": self.model_extra or {}}

    @property
    def once(self) -> str | None:
        """The key with which a submission starts one run; None to generate an answer again."""
        if self.trigger == "regenerate-message":
            return None
        return f"{self.id} {hashlib.sha256(pydantic_core.to_json(self.messages)).hexdigest()}"

    def reader(self, run_id: str) -> "UIMessageReader":
        """Return the reader of the run, which continues the last message if that is an answer."""
        last = self.messages[-1]
        return UIMessageReader(last["id"] if last["role"] == "assistant" else run_id)


def _neutral(message: UIMessage) -> Iterator[Record]:
    """Convert a message; each step of an answer is followed by the results of its tools."""
    role, parts = message["role"], message["parts"]
    if role == "assistant":
        begin = 0
        for end in [at for at, part in enumerate(parts) if part.get("type") == "step-start"]:
            yield from _step(parts[begin:end])
            begin = end
        yield from _step(parts[begin:])
        return
    content = [_file(part) for part in parts if part.get("type") == "file"]
    text = _text(parts, "text")
    yield {"role": role, "content": [*content, {"type": "text", "text": text}] if content else text}


def _text(parts: list[Record], kind: str) -> str:
    return "".join([str(part.get("text", "")) for part in parts if part.get("type") == kind])


def _file(part: Record) -> Record:
    if str(part.get("mediaType")).startswith("image/"):
        return {"type": "image_url", "image_url": {"url": part.get("url")}}
    file = {"filename": part.get("filename") or "file", "file_data": part.get("url")}
    return {"type": "file", "file": file}


def _step(parts: list[Record]) -> Iterator[Record]:
    text, reasoning = _text(parts, "text"), _text(parts, "reasoning")
    # A model refuses a call without a result.
    results = [(part, result) for part in parts if (result := _result(part)) is not None]
    if text or results:
        message = {"role": "assistant", "content": text or None}
        if reasoning:
            message["reasoning_content"] = reasoning
        yield message | ({"tool_calls": [_call(part) for part, _ in results]} if results else {})
    for part, result in results:
        yield {"role": "tool", "tool_call_id": str(part.get("toolCallId")), "content": result}


def _call(part: Record) -> Record:
    name = part.get("toolName") or str(part.get("type")).removeprefix("tool-")
    return call_of(
        str(part.get("toolCallId")), name, _json(part.get("input", part.get("rawInput")))
    )


def _result(part: Record) -> str | None:
    """Return the result of a tool call, None for anything else and for a call without one."""
    if not str(part.get("type")).startswith(("tool-", "dynamic-tool")):
        return None
    match part.get("state"):
        case "output-available":
            return _json(part.get("output"))
        case "output-error":
            return str(part.get("errorText") or "The tool failed.")
        case "output-denied":
            return "The user has denied the call."
    return None


def _json(value: object) -> str:
    return value if isinstance(value, str) else pydantic_core.to_json(value).decode()


class UIMessageReader(BlockReader):
    """A UI message stream; `message_id` is that of the answer, also after a reload."""

    headers: ClassVar[Mapping[str, str]] = {**STREAMED, "x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, message_id: str) -> None:
        super().__init__()
        self._message_id = message_id
        self._count = 0

    def begin(self, retry: float) -> bytes:
        start = sse_json({"type": "start", "messageId": self._message_id})
        return start + sse_json({"type": "start-step"})

    def encode_step(self, step: Step) -> Iterator[Record]:
        call = {"toolCallId": step.id}
        match step.action:
            case "next":
                yield {"type": "finish-step"}
                yield {"type": "start-step"}
            case "call-start":
                yield {"type": "tool-input-start", **call, "toolName": step.name}
            case "call-delta":
                yield {"type": "tool-input-delta", **call, "inputTextDelta": step.text}
            case "call-end":
                yield _input({**call, "toolName": step.name}, step.text)
            case "result":
                yield {"type": "tool-output-available", **call, "output": step.result}
            case action:  # Of text or reasoning.
                self._count += action.endswith("start")
                delta = {"delta": step.text} if step.text else {}
                yield {"type": action, "id": str(self._count), **delta}

    def ended(self, end: End) -> bytes:
        body = self.close(is_complete=end.status == "complete")
        if end.status == "complete":
            body += sse_json({"type": "finish-step"})
            last = {"type": "finish", "finishReason": self.reason.replace("_", "-")}
        elif end.status == "stopped":
            last = {"type": "abort"}
        else:
            last = {"type": "error", "errorText": end.detail}
        return body + sse_json(last) + b"data: [DONE]\n\n"


def _input(call: Record, text: str) -> Record:
    try:
        value = pydantic_core.from_json(text or "{}")
    except ValueError:
        error = {"input": text, "errorText": "The arguments are not JSON."}
        return {"type": "tool-input-error", **call, **error}
    return {"type": "tool-input-available", **call, "input": value}
