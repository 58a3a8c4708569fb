"""The events of AG-UI, the protocol between agents and user interfaces.

Source: AG-UI, "Events" and "Messages"; `RunAgentInput`.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, NotRequired, Required

from pydantic import FailFast, Field
from typing_extensions import TypedDict

from ..runs.readers import End
from .readers import BlockReader, Record, Step, sse_json
from .requests import ChatRequest, Name, Objects


class AGUIMessage(TypedDict, total=False):
    """A message; those of activities and reasoning are ignored."""

    role: Required[str]
    content: str | Objects | dict[str, Any] | None
    toolCalls: Objects | None
    toolCallId: str


class AGUIContext(TypedDict):
    """What the model should know about the user interface."""

    description: str
    value: str


class AGUITool(TypedDict):
    """A tool that the user interface runs."""

    name: str
    description: str
    parameters: NotRequired[Any]


class RunAgentInput(ChatRequest):
    """The body of a request; members of an object in `forwardedProps` are options."""

    threadId: Name  # noqa: N815  # The names of the members.
    runId: Name  # noqa: N815
    messages: Annotated[list[AGUIMessage], FailFast()]
    tools: Annotated[list[AGUITool], FailFast()] = Field(default_factory=list)
    context: Annotated[list[AGUIContext], FailFast()] = Field(default_factory=list)
    forwardedProps: Any = None  # noqa: N815

    def parameters(self) -> dict[str, Any]:
        known = "\n".join([f"{each['description']}: {each['value']}" for each in self.context])
        messages: list[Record] = [{"role": "system", "content": known}] if known else []
        messages += [each for message in self.messages for each in _neutral(message)]
        tools = [{"type": "function", "function": tool} for tool in self.tools]
        properties = self.forwardedProps
        options = properties if isinstance(properties, dict) else {}
        return {"messages": messages, "tools": tools, "options": options}

    def reader(self, run_id: str) -> "AGUIReader":
        """Return the reader of the run."""
        return AGUIReader(run_id, {"threadId": self.threadId, "runId": self.runId})


def _neutral(message: AGUIMessage) -> Iterator[Record]:
    role, content = message["role"], message.get("content")
    if role in ("activity", "reasoning"):
        return
    if isinstance(content, list):
        content = [_part(part) for part in content]
    neutral: Record = {"role": role, "content": content}
    if calls := message.get("toolCalls"):
        neutral["tool_calls"] = calls
    if role == "tool":
        neutral["tool_call_id"] = message.get("toolCallId", "")
    yield neutral


def _part(part: Record) -> Record:
    """Convert a part of a content; one that is not known passes through."""
    source = part.get("source")
    if not isinstance(source, dict):
        return part
    value, mime_type = str(source.get("value", "")), str(source.get("mimeType", ""))
    match source.get("type"):
        case "file":
            return {"type": "file", "file": {"file_id": value}}
        case "data" if part.get("type") == "audio":
            audio = {"data": value, "format": mime_type.rpartition("/")[2]}
            return {"type": "input_audio", "input_audio": audio}
        case "data":
            value = f"data:{mime_type};base64,{value}"
    if part.get("type") == "image":
        return {"type": "image_url", "image_url": {"url": value}}
    return {"type": "file", "file": {"filename": part.get("id", "file"), "file_data": value}}


class AGUIReader(BlockReader):
    """The events of a run of an agent; `ids` are those of the thread and of the client's run."""

    def __init__(self, run_id: str, ids: dict[str, str]) -> None:
        super().__init__()
        self._run_id = run_id
        self._ids = ids
        self._count = 0
        self._text_id = ""
        #: The message to which the next tool call belongs.
        self._message = ""

    def begin(self, retry: float) -> bytes:
        return sse_json({"type": "RUN_STARTED", **self._ids})

    def encode_step(self, step: Step) -> Iterator[Record]:
        call = {"toolCallId": step.id}
        match step.action:
            case "next":
                self._message = ""
            case "call-start":
                self._message = self._message or self._new_id()
                parent = {"parentMessageId": self._message}
                yield {"type": "TOOL_CALL_START", **call, "toolCallName": step.name, **parent}
            case "call-delta":
                yield {"type": "TOOL_CALL_ARGS", **call, "delta": step.text}
            case "call-end":
                yield {"type": "TOOL_CALL_END", **call}
            case "result":
                content = step.result if isinstance(step.result, str) else json.dumps(step.result)
                result = {"messageId": self._new_id(), **call, "content": content, "role": "tool"}
                yield {"type": "TOOL_CALL_RESULT", **result}
            case action:
                yield from self._text(action, step.text)

    def _text(self, action: str, text: str) -> Iterator[Record]:
        if action.endswith("start"):
            self._text_id = self._new_id()
        message = {"messageId": self._text_id}
        match action:
            case "text-start":
                self._message = self._text_id
                yield {"type": "TEXT_MESSAGE_START", **message, "role": "assistant"}
            case "text-delta":
                yield {"type": "TEXT_MESSAGE_CONTENT", **message, "delta": text}
            case "text-end":
                yield {"type": "TEXT_MESSAGE_END", **message}
            case "reasoning-start":
                yield {"type": "REASONING_START", **message}
                yield {"type": "REASONING_MESSAGE_START", **message, "role": "reasoning"}
            case "reasoning-delta":
                yield {"type": "REASONING_MESSAGE_CONTENT", **message, "delta": text}
            case "reasoning-end":
                yield {"type": "REASONING_MESSAGE_END", **message}
                yield {"type": "REASONING_END", **message}

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._run_id}-{self._count}"

    def ended(self, end: End) -> bytes:
        if end.status != "complete":
            return sse_json({"type": "RUN_ERROR", "message": end.detail, "code": end.status})
        used = {}
        if self.usage is not None:
            prompt, completion = self.usage.prompt_tokens, self.usage.completion_tokens
            used["usage"] = [{"inputTokens": prompt, "outputTokens": completion}]
        return self.close() + sse_json({"type": "RUN_FINISHED", **self._ids, **used})
