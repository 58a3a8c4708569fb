"""The events of a chat, which a model yields and the readers of all formats understand."""

from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ..messages import Message, message_of


class Text(BaseModel):
    """A piece of the reply."""

    type: Literal["text"] = "text"
    text: str


class Reasoning(BaseModel):
    """A piece of the model's reasoning before it replies."""

    type: Literal["reasoning"] = "reasoning"
    text: str


class ToolCall(BaseModel):
    """A call of a tool of the client or of the service, or a piece of it, which has its `id`.

    `arguments` is JSON text, or the next piece of it. `name` is needed in the first piece only.
    """

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str = ""
    arguments: str = ""


class ToolResult(BaseModel):
    """The result of a tool that the service has called; OpenAI clients see neither of both."""

    type: Literal["tool_result"] = "tool_result"
    id: str
    result: Any


class Usage(BaseModel):
    """The number of tokens of the request and of the reply."""

    type: Literal["usage"] = "usage"
    prompt_tokens: int
    completion_tokens: int


class Finish(BaseModel):
    """Why the model stopped, by default because its reply is complete, or calls tools."""

    type: Literal["finish"] = "finish"
    reason: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"


#: One of the events above, by its `type`.
ChatEvent = Annotated[
    Text | Reasoning | ToolCall | ToolResult | Usage | Finish, Field(discriminator="type")
]
_ADAPTER: TypeAdapter[ChatEvent] = TypeAdapter(ChatEvent)


def chat_event(message: Message) -> ChatEvent | None:
    """Return the event in a message of a run: plain text is `Text`, and other data None."""
    if message.event is not None:
        return None
    if not message.is_json:
        return Text(text=message.data)
    try:
        return _ADAPTER.validate_json(message.data)
    except ValidationError:
        return None


def compact(messages: list[Message]) -> list[Message]:
    """Merge successive pieces of text, of reasoning, and of one tool call."""
    events = [(message, chat_event(message)) for message in messages]
    compacted: list[Message] = []
    for kind, group in groupby(events, _kind):
        found = list(group)
        if kind is None or len(found) == 1:
            compacted += [message for message, _ in found]
        else:
            compacted.append(_merged([event for _, event in found], found[0][0].is_json))
    return compacted


def _kind(found: tuple[Message, ChatEvent | None]) -> tuple[str, ...] | None:
    """Return what pieces that can be merged have in common; None for anything else."""
    message, event = found
    match event:
        case Text() | Reasoning():
            return (event.type, str(message.is_json))
        case ToolCall():
            return (event.type, event.id)
    return None


def _merged(events: list[Any], is_json: bool) -> Message:
    member = "arguments" if isinstance(events[0], ToolCall) else "text"
    text = "".join([getattr(event, member) for event in events])
    return message_of(events[0].model_copy(update={member: text}) if is_json else text)
