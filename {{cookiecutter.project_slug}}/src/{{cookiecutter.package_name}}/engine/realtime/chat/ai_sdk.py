"""The UI message stream of the AI SDK, and the requests of its `useChat`.

Source: AI SDK 5 and 6, "Stream protocol" (data streams) and `UIMessage`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Required

import pydantic_core
from pydantic import FailFast, Field
from typing_extensions import TypedDict

from ..runs.readers import End
from ..streams import STREAMED
from .readers import BlockReader, Record, Step, sse_json
from .requests import ChatRequest, Name

DONE = b"data: [DONE]\n\n"


class UIPart(TypedDict, total=False):
    """A part of a message: text, reasoning, a file, a tool call, or one that is ignored."""

    type: Required[str]
    text: str
    url: str
    mediaType: str
    filename: str | None
    toolCallId: str
    toolName: str
    state: str
    input: Any
    rawInput: Any
    output: Any
    errorText: str | None


class UIMessage(TypedDict):
    """A message of `useChat`."""

    id: Name
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[UIPart], FailFast()]


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
        for end in [index for index, part in enumerate(parts) if part["type"] == "step-start"]:
            yield from _step(parts[begin:end])
            begin = end
        yield from _step(parts[begin:])
        return
    content = [each for part in parts if (each := _content(part))]
    is_text = all(each["type"] == "text" for each in content)
    text = "".join([each["text"] for each in content if is_text])
    yield {"role": role, "content": text if is_text else content}


def _content(part: UIPart) -> Record | None:
    url = part.get("url", "")
    match part["type"]:
        case "text":
            return {"type": "text", "text": part.get("text", "")}
        case "file" if part.get("mediaType", "").startswith("image/"):
            return {"type": "image_url", "image_url": {"url": url}}
        case "file":
            file = {"filename": part.get("filename") or "file", "file_data": url}
            return {"type": "file", "file": file}
    return None


def _step(parts: list[UIPart]) -> Iterator[Record]:
    texts = {
        kind: "".join([part.get("text", "") for part in parts if part["type"] == kind])
        for kind in ("text", "reasoning")
    }
    # A model refuses a call without a result.
    results = [(part, result) for part in parts if (result := _result(part)) is not None]
    if not results and not texts["text"]:
        return
    message: Record = {"role": "assistant", "content": texts["text"] or None}
    if texts["reasoning"]:
        message["reasoning_content"] = texts["reasoning"]
    if results:
        message["tool_calls"] = [_call(part) for part, _ in results]
    yield message
    for part, result in results:
        yield {"role": "tool", "tool_call_id": part.get("toolCallId", ""), "content": result}


def _call(part: UIPart) -> Record:
    name = part.get("toolName") or part["type"].removeprefix("tool-")
    arguments = part.get("input", part.get("rawInput"))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    return {"id": part.get("toolCallId", ""), "type": "function", "function": function}


def _result(part: UIPart) -> str | None:
    """Return the result of a tool call, None for anything else and for a call without one."""
    if part["type"] != "dynamic-tool" and not part["type"].startswith("tool-"):
        return None
    match part.get("state"):
        case "output-available":
            output = part.get("output")
            return output if isinstance(output, str) else json.dumps(output)
        case "output-error":
            return part.get("errorText") or "The tool failed."
        case "output-denied":
            return "The user has denied the call."
    return None


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
                yield _input(step)
            case "result":
                yield {"type": "tool-output-available", **call, "output": step.result}
            case action:  # Of text or reasoning.
                self._count += action.endswith("start")
                delta = {"delta": step.text} if step.text else {}
                yield {"type": action, "id": str(self._count), **delta}

    def ended(self, end: End) -> bytes:
        body = self.close(is_complete=end.status == "complete")
        match end.status:
            case "complete":
                reason = self.reason.replace("_", "-")
                body += sse_json({"type": "finish-step"})
                body += sse_json({"type": "finish", "finishReason": reason})
            case "stopped":
                body += sse_json({"type": "abort"})
            case _:
                body += sse_json({"type": "error", "errorText": end.detail})
        return body + DONE


def _input(step: Step) -> Record:
    call = {"toolCallId": step.id, "toolName": step.name}
    try:
        value = pydantic_core.from_json(step.text or "{}")
    except ValueError:
        error = {"input": step.text, "errorText": "The arguments are not JSON."}
        return {"type": "tool-input-error", **call, **error}
    return {"type": "tool-input-available", **call, "input": value}
