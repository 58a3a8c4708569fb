"""Chat: what a model yields, and the formats of the clients that show it.

* `events`: the items of the run of a chat. The messages and tools of a request are those of OpenAI.
* `openai`: chat completions; `ai_sdk`: UI message streams; `ag_ui`: the events of AG-UI.

Sources: OpenAI API reference (chat completions); AI SDK, "Stream protocol"; AG-UI, "Events".
"""

from .events import ChatEvent, Finish, Reasoning, Text, ToolCall, ToolResult, Usage

__all__ = ["ChatEvent", "Finish", "Reasoning", "Text", "ToolCall", "ToolResult", "Usage"]
