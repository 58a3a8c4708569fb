"""The compacted log of a chat means the same as the log, and is short."""

from {{cookiecutter.package_name}}.engine.realtime.chat import (
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    compact,
)
from {{cookiecutter.package_name}}.engine.realtime.messages import Message, message_of


def messages_of(*items: object) -> list[Message]:
    return [message_of(item) for item in items]


def test_successive_pieces_are_merged_and_nothing_else() -> None:
    progress = Message("x", "progress")
    items = [
        Reasoning(text="H"), Reasoning(text="m"),
        Text(text="a"), Text(text="\n"), Text(text="b"),
        progress, progress,
        Text(text="c"),
        ToolCall(id="1", name="add", arguments="{"), ToolCall(id="1", arguments="}"),
        ToolCall(id="2", name="add"),
        ToolResult(id="1", result=1), ToolResult(id="2", result=2),
        {"n": 1}, {"n": 2},
        Usage(prompt_tokens=1, completion_tokens=2), Usage(prompt_tokens=1, completion_tokens=2),
    ]  # fmt: skip

    compacted = compact(messages_of(*items))
    assert compacted == messages_of(
        Reasoning(text="Hm"),
        Text(text="a\nb"),
        progress,
        progress,
        Text(text="c"),
        ToolCall(id="1", name="add", arguments="{}"),
        *items[10:],
    )
    assert compact(compacted) == compacted


def test_plain_text_stays_plain_text() -> None:
    assert compact(messages_of("a", "b", Text(text="c"))) == messages_of("ab", Text(text="c"))


def test_nothing_is_nothing() -> None:
    assert compact([]) == []


def test_many_pieces_become_one() -> None:
    [message] = compact(messages_of(*[Text(text="x" * 50)] * 20_000))

    assert message == messages_of(Text(text="x" * 1_000_000))[0]
