"""The base of the readers of a chat: JSON in server-sent events, and the state of a reply."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..ring import Event
from ..runs.readers import Reader
from .events import ChatEvent, Finish, Reasoning, Text, ToolCall, ToolResult, Usage, chat_event

Record = dict[str, Any]

#: Made once: `json.dumps` with these separators makes an encoder for each call, which takes longer
#: than the encoding.
to_json = json.JSONEncoder(separators=(",", ":")).encode
#: The end of an event after its last member.
_AFTER = b"}\n\n"


def sse_json(record: Record) -> bytes:
    """Encode an event with JSON, in ASCII: some clients end a line at U+2028."""
    return b"data: %b\n\n" % to_json(record).encode()


class ChatReader(Reader):
    """A format of JSON events; a subclass returns the `records` of an event."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        #: The name of each tool call that has no result, and the pieces of its arguments.
        self.calls: dict[str, list[str]] = {}
        self._reason: str | None = None

    @property
    def reason(self) -> str:
        """Why the model stopped, in the words of OpenAI."""
        return self._reason or ("tool_calls" if self.calls else "stop")

    def note(self, item: ChatEvent) -> None:
        """Remember the parts that the end of the reply needs."""
        match item:
            case Usage():
                self.usage = item
            case Finish(reason=reason):
                self._reason = reason
            case ToolCall():
                self.calls.setdefault(item.id, [item.name]).append(item.arguments)
            case ToolResult():
                self.calls.pop(item.id, None)

    def encode(self, event: Event) -> bytes:
        item = chat_event(event.message)
        return b"" if item is None else self.encode_item(item)

    def encode_item(self, item: ChatEvent) -> bytes:
        """Return the bytes of an event of the run."""
        body = b"".join([sse_json(record) for record in self.records(item)])
        self.note(item)
        return body

    def records(self, item: ChatEvent) -> Iterator[Record]:
        """Return the events of the format for an event of the run."""
        raise NotImplementedError


class Step(NamedTuple):
    """A part of a reply.

    `text-start`, `text-delta` (with `text`), `text-end`, and the same with `reasoning`;
    `call-start` (with the name), `call-delta`, `call-end` (with all arguments) for the call `id`;
    `result` of the call `id`; `next` before what follows the results of tools.
    """

    action: str
    id: str = ""
    text: str = ""
    name: str = ""
    result: Any = None


class BlockReader(ChatReader):
    """A format that announces the beginning and the end of each text and each tool call."""

    def __init__(self) -> None:
        super().__init__()
        self._block = ""
        #: The bytes before the next piece of the open text: all but that is encoded once.
        self._before = b""
        #: The ids of the tool calls that are open: pieces of several ones may alternate.
        self._open: list[str] = []
        self._has_result = False

    def encode_item(self, item: ChatEvent) -> bytes:
        if isinstance(item, Text) and item.text and self._block == "text" and self._before:
            return self._before + to_json(item.text).encode() + _AFTER
        return super().encode_item(item)

    def records(self, item: ChatEvent) -> Iterator[Record]:
        for step in self._steps(item):
            for record in self.encode_step(step):
                if step.action == "text-delta":  # Its last member is `delta`, the text.
                    self._before = sse_json(record | {"delta": ""}).removesuffix(b'""' + _AFTER)
                yield record

    def encode_step(self, step: Step) -> Iterator[Record]:
        """Return the events of the format for a step."""
        raise NotImplementedError

    def _steps(self, item: ChatEvent) -> Iterator[Step]:
        if self._has_result and isinstance(item, Text | Reasoning | ToolCall):
            self._has_result = False
            yield Step("next")
        match item:
            case Text() | Reasoning() if item.text:
                if self._block != item.type:
                    yield from self._close()
                    self._block = item.type
                    yield Step(f"{item.type}-start")
                yield Step(f"{item.type}-delta", text=item.text)
            case ToolCall():
                if item.id not in self._open:
                    yield from self._close_block()
                    self._open.append(item.id)
                    yield Step("call-start", item.id, name=item.name)
                if item.arguments:
                    yield Step("call-delta", item.id, item.arguments)
            case ToolResult():
                yield from self._close()
                self._has_result = True
                yield Step("result", item.id, result=item.result)

    def _close_block(self) -> Iterator[Step]:
        if self._block:
            yield Step(f"{self._block}-end")
        self._block, self._before = "", b""

    def _close(self) -> Iterator[Step]:
        yield from self._close_block()
        for call_id in self._open:
            name, *pieces = self.calls[call_id]
            yield Step("call-end", call_id, "".join(pieces), name)
        self._open.clear()

    def close(self, *, is_complete: bool = True) -> bytes:
        """Return the end of open texts, and of open calls if they are complete."""
        steps = self._close() if is_complete else self._close_block()
        return b"".join([sse_json(each) for step in steps for each in self.encode_step(step)])
