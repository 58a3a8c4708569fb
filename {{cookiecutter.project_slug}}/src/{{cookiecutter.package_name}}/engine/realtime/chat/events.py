"""What a model yields: the events of a chat, which the readers of all formats understand."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field


class Text(BaseModel):
    """A piece of the answer."""

    type: Literal["text"] = "text"
    text: str


class Reasoning(BaseModel):
    """A piece of what the model thinks before it answers."""

    type: Literal["reasoning"] = "reasoning"
    text: str


class ToolCall(BaseModel):
    """A call of a tool, or a piece of it: pieces of one call have its `id`.

    `arguments` is JSON text, or the next piece of it. `name` is needed in the first piece only.
    """

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str = ""
    arguments: str = ""


class ToolResult(BaseModel):
    """What a tool that the service itself ran has returned."""

    type: Literal["tool_result"] = "tool_result"
    id: str
    result: Any


class Usage(BaseModel):
    """The number of tokens of the request and of the answer."""

    type: Literal["usage"] = "usage"
    prompt_tokens: int
    completion_tokens: int


class Finish(BaseModel):
    """Why the model stopped, by default because its answer is complete."""

    type: Literal["finish"] = "finish"
    reason: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"


ChatEvent = Annotated[
    Text | Reasoning | ToolCall | ToolResult | Usage | Finish, Field(discriminator="type")
]
