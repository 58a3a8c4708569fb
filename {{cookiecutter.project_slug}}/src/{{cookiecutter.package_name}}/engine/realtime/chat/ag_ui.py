"""The events of AG-UI, the protocol between agents and user interfaces.

Source: AG-UI 1.0, "Events" and "Messages"; `RunAgentInput`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, with_config
from typing_extensions import TypedDict

from ..runs.readers import End
from .readers import BlockReader, Record, Step, sse_json
from .requests import MOST, OPEN, ChatFunction, ChatRequest, Name, Objects

#: The events of texts.
_EVENTS: dict[str, list[Record]] = {
    "text-start": [{"type": "TEXT_MESSAGE_START", "role": "assistant"}],
    "text-delta": [{"type": "TEXT_MESSAGE_CONTENT"}],
    "text-end": [{"type": "TEXT_MESSAGE_END"}],
    "reasoning-start": [
        {"type": "REASONING_START"},
        {"type": "REASONING_MESSAGE_START", "role": "reasoning"},
    ],
    "reasoning-delta": [{"type": "REASONING_MESSAGE_CONTENT"}],
    "reasoning-end": [{"type": "REASONING_MESSAGE_END"}, {"type": "REASONING_END"}],
}


@with_config(OPEN)
class AGUIMessage(TypedDict):
    """A message; those of activities and reasoning are ignored."""

    role: Literal["developer", "system", "user", "assistant", "tool", "activity", "reasoning"]


class RunAgentInput(ChatRequest):
    """The request of an agent; the members of an object in `forwardedProps` are options."""

    threadId: Name  # noqa: N815  # The names of the members.
    runId: Name  # noqa: N815
    messages: Annotated[list[AGUIMessage], FailFast()]
    tools: Annotated[list[ChatFunction], Field(max_length=MOST), FailFast()] = Field(
        default_factory=list
    )
    context: Annotated[Objects, Field(max_length=MOST)] = Field(default_factory=list)
    forwardedProps: Any = None  # noqa: N815

    def parameters(self) -> dict[str, Any]:
        known = "\n".join(
            [f"{each.get('description')}: {each.get('value')}" for each in self.context]
        )
        messages: list[Record] = [{"role": "system", "content": known}] if known else []
        messages += [
            _neutral(message)
            for message in self.messages
            if message["role"] not in ("activity", "reasoning")
        ]
        tools = [{"type": "function", "function": tool} for tool in self.tools]
        properties = self.forwardedProps
        options = properties if isinstance(properties, dict) else {}
        return {"messages": messages, "tools": tools, "options": options}

    def reader(self, run_id: str) -> "AGUIReader":
        """Return the reader of the run."""
        return AGUIReader(run_id, {"threadId": self.threadId, "runId": self.runId})


def _neutral(message: Mapping[str, Any]) -> Record:
    content = message.get("content")
    neutral = {
        "role": message["role"],
        "content": [_part(part) for part in content] if isinstance(content, list) else content,
    }
    if calls := message.get("toolCalls"):
        neutral["tool_calls"] = calls
    if "toolCallId" in message:
        neutral["tool_call_id"] = message["toolCallId"]
    return neutral


def _part(part: Any) -> Any:
    """Convert a part of a content; one that is not known passes through."""
    match part:
        case {"source": {"type": "file", "value": value}}:
            return {"type": "file", "file": {"file_id": value}}
        case {"type": "audio", "source": {"type": "data", "value": value, "mimeType": str(mime)}}:
            audio = {"data": value, "format": mime.rpartition("/")[2]}
            return {"type": "input_audio", "input_audio": audio}
        case {"source": {"type": "data", "value": value, "mimeType": mime}}:
            url = f"data:{mime};base64,{value}"
        case {"source": {"type": "url", "value": url}}:
            pass
        case _:
            return part
    if part.get("type") == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": part.get("id", "file"), "file_data": url}}


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
                if action.endswith("start"):
                    self._text_id = self._new_id()
                if action == "text-start":
                    self._message = self._text_id
                delta = {"delta": step.text} if step.text else {}
                for record in _EVENTS[action]:
                    yield {**record, "messageId": self._text_id, **delta}

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._run_id}-{self._count}"

    def ended(self, end: End) -> bytes:
        if end.status != "complete":
            return sse_json({"type": "RUN_ERROR", "message": end.detail, "code": end.status})
        last: Record = {"type": "RUN_FINISHED", **self._ids}
        if self.usage is not None:
            prompt, completion = self.usage.prompt_tokens, self.usage.completion_tokens
            last["usage"] = [{"inputTokens": prompt, "outputTokens": completion}]
        return self.close() + sse_json(last)
