"""The neutral form of a request, which is that of OpenAI: messages, tools, and other options."""

from typing import Annotated, Any, Literal, NotRequired

import pydantic_core
from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator, with_config
from typing_extensions import TypeAliasType, TypedDict  # Python 3.11 has none that serve.

OPEN = ConfigDict(extra="allow")

#: A longer list of errors would cost more than the request.
Objects = TypeAliasType("Objects", Annotated[list[dict[str, Any]], FailFast()])
#: Tools, and descriptions of a user interface, at most.
MOST = 1000
#: It is repeated in the response.
Name = Annotated[str, Field(max_length=256)]


@with_config(OPEN)
class ChatMessage(TypedDict):
    """A message in the form of OpenAI; its other members are kept."""

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: NotRequired[str | Objects | None]
    tool_calls: NotRequired[Objects | None]
    tool_call_id: NotRequired[str]


@with_config(OPEN)
class ChatFunction(TypedDict):
    """What a model knows of a tool: `description` and `parameters` (JSON Schema) are optional."""

    name: str


class ChatTool(TypedDict):
    """A tool in the form of OpenAI."""

    type: Literal["function"]
    function: ChatFunction


ChatMessages = TypeAliasType("ChatMessages", Annotated[list[ChatMessage], FailFast()])
ChatTools = TypeAliasType(
    "ChatTools", Annotated[list[ChatTool], Field(max_length=MOST), FailFast()]
)


class ChatRequest(BaseModel):
    """A request; its members that the format does not define are options for the model."""

    model_config = OPEN

    @model_validator(mode="before")
    @classmethod
    def _check_json(cls, value: object) -> object:
        # Python's parser accepts half surrogate pairs and any depth; the run has some levels more.
        pydantic_core.to_json([[[value]]])
        return value

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the run: `messages`, `tools` and `options`."""
        raise NotImplementedError


def text_of(message: ChatMessage) -> str:
    """Return the text of a message, without its images and files."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join([str(part.get("text", "")) for part in content])
    return content or ""


def call_of(call_id: object, name: object, arguments: str) -> dict[str, Any]:
    """Return a tool call in the form of OpenAI."""
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}
