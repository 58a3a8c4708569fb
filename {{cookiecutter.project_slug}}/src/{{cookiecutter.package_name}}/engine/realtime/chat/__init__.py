"""Chat: what a model yields, and the formats of the clients that show it.

* `events`: the items of the run of a chat. The messages and tools of a request are those of OpenAI.
* `openai`: chat completions; `ai_sdk`: UI message streams; `ag_ui`: the events of AG-UI.
* `requests`, `readers`: what these have in common.

Sources: OpenAI API reference (chat completions); AI SDK, "Stream protocol"; AG-UI, "Events".
"""

from .ag_ui import AGUIReader, RunAgentInput
from .ai_sdk import UIChatRequest, UIMessageReader
from .events import ChatEvent, Finish, Reasoning, Text, ToolCall, ToolResult, Usage, compact
from .openai import ChatCompletionRequest, ChunkReader
from .requests import ChatMessage, ChatMessages, ChatTool, ChatTools, text_of

__all__ = [
    "AGUIReader",
    "ChatCompletionRequest",
    "ChatEvent",
    "ChatMessage",
    "ChatMessages",
    "ChatTool",
    "ChatTools",
    "ChunkReader",
    "Finish",
    "Reasoning",
    "RunAgentInput",
    "Text",
    "ToolCall",
    "ToolResult",
    "UIChatRequest",
    "UIMessageReader",
    "Usage",
    "compact",
    "text_of",
]
