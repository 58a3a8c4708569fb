"""The readers of a chat: each format has all events, in the order that its clients accept."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime.chat import (
    AGUIReader,
    ChunkReader,
    Finish,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    UIMessageReader,
    Usage,
)
from {{cookiecutter.package_name}}.engine.realtime.messages import Message, message_of
from {{cookiecutter.package_name}}.engine.realtime.ring import Event
from {{cookiecutter.package_name}}.engine.realtime.runs.readers import End, Reader

FORMATS = [
    pytest.param(lambda: ChunkReader("r", "m"), id="openai"),
    pytest.param(lambda: UIMessageReader("m"), id="ai_sdk"),
    pytest.param(lambda: AGUIReader("r", {}), id="ag_ui"),
]
COMPLETE = End("e-9", "complete")
ENDS = [
    End("e-9", "stopped"),
    End("e-9", "interrupted"),
    End("e-9", "failed", {"status": 500, "title": "Internal Server Error", "detail": "No model."}),
]
#: A step that thinks, writes, and calls two tools, whose pieces alternate; then the answer.
STEPS = [
    Reasoning(text="Hm"),
    Reasoning(text="m."),
    Text(text="Let me "),
    Text(text="look."),
    ToolCall(id="a", name="add", arguments='{"x":'),
    ToolCall(id="b", name="now"),
    ToolCall(id="a", arguments="1}"),
    ToolResult(id="a", result={"sum": 2}),
    ToolResult(id="b", result="noon"),
    Text(text="2 at noon."),
    Usage(prompt_tokens=3, completion_tokens=4),
]


def read(reader: Reader, items: list[Any], end: End = COMPLETE) -> list[Any]:
    """Return the JSON of each event that a follower receives; `[DONE]` is a string."""
    body = reader.begin(2.0)
    for number, item in enumerate(items, 1):
        body += reader.encode(Event(f"e-{number}", number, 0, "run:x", message_of(item), 0.0))
    blocks = (body + (reader.ended(end) or b"")).decode().split("\n\n")
    assert blocks.pop() == ""
    texts = [block.removeprefix("data: ") for block in blocks]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def deltas(chunks: list[Any]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk != "[DONE]"]


def test_a_completion_is_a_role_then_deltas_a_reason_and_done() -> None:
    chunks = read(ChunkReader("r", "m"), [Text(text="a"), "b", Finish(reason="length")])

    assert deltas(chunks) == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {"content": "b"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [
        *[None] * 3,
        "length",
    ]
    assert chunks[-1] == "[DONE]"
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks[:-1]} == {
        ("chatcmpl-r", "chat.completion.chunk", "m")
    }


def test_a_completion_has_reasoning_and_tool_calls() -> None:
    *chunks, last, _ = read(ChunkReader("r", "m"), STEPS[:7])

    def call(index: int, call_id: str, name: str, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        call = {"index": index, "id": call_id, "type": "function", "function": function}
        return {"tool_calls": [call]}

    assert deltas(chunks)[1:] == [
        {"reasoning_content": "Hm"},
        {"reasoning_content": "m."},
        {"content": "Let me "},
        {"content": "look."},
        call(0, "a", "add", '{"x":1}'),
        call(1, "b", "now", ""),
    ]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_a_completion_has_no_call_of_a_tool_that_the_service_has_run() -> None:
    *chunks, last, _ = read(ChunkReader("r", "m"), STEPS)

    assert deltas(chunks)[-2:] == [{"content": "look."}, {"content": "2 at noon."}]
    assert last["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("include_usage", [False, True])
def test_usage_is_sent_only_if_the_client_asks_for_it(include_usage: bool) -> None:
    *_, last, done = read(ChunkReader("r", "m", include_usage), STEPS)

    assert done == "[DONE]"
    assert last["choices"] == ([] if include_usage else last["choices"])
    assert last.get("usage") == (
        {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7} if include_usage else None
    )


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.status)
def test_a_completion_that_is_not_complete_ends_with_an_error(end: End) -> None:
    *_, last = read(ChunkReader("r", "m", include_usage=True), [Text(text="a")], end)

    assert last == {
        "error": {"message": end.detail, "type": "server_error", "code": end.status, "param": None}
    }


def test_a_ui_message_has_blocks_and_steps() -> None:
    reader = UIMessageReader("m")

    assert reader.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert read(reader, STEPS) == [
        {"type": "start", "messageId": "m"},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "1"},
        {"type": "reasoning-delta", "id": "1", "delta": "Hm"},
        {"type": "reasoning-delta", "id": "1", "delta": "m."},
        {"type": "reasoning-end", "id": "1"},
        {"type": "text-start", "id": "2"},
        {"type": "text-delta", "id": "2", "delta": "Let me "},
        {"type": "text-delta", "id": "2", "delta": "look."},
        {"type": "text-end", "id": "2"},
        {"type": "tool-input-start", "toolCallId": "a", "toolName": "add"},
        {"type": "tool-input-delta", "toolCallId": "a", "inputTextDelta": '{"x":'},
        {"type": "tool-input-start", "toolCallId": "b", "toolName": "now"},
        {"type": "tool-input-delta", "toolCallId": "a", "inputTextDelta": "1}"},
        {"type": "tool-input-available", "toolCallId": "a", "toolName": "add", "input": {"x": 1}},
        {"type": "tool-input-available", "toolCallId": "b", "toolName": "now", "input": {}},
        {"type": "tool-output-available", "toolCallId": "a", "output": {"sum": 2}},
        {"type": "tool-output-available", "toolCallId": "b", "output": "noon"},
        {"type": "finish-step"},
        {"type": "start-step"},
        {"type": "text-start", "id": "3"},
        {"type": "text-delta", "id": "3", "delta": "2 at noon."},
        {"type": "text-end", "id": "3"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
        "[DONE]",
    ]


def test_a_tool_call_whose_arguments_are_not_json_is_an_error_of_the_call() -> None:
    events = read(UIMessageReader("m"), [ToolCall(id="a", name="add", arguments="{")])

    assert events[4] == {
        "type": "tool-input-error",
        "toolCallId": "a",
        "toolName": "add",
        "input": "{",
        "errorText": "The arguments are not JSON.",
    }
    assert events[-2] == {"type": "finish", "finishReason": "tool-calls"}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.status)
def test_a_ui_message_that_is_not_complete_is_aborted_or_has_an_error(end: End) -> None:
    call = ToolCall(id="a", name="add", arguments="{")
    events = read(UIMessageReader("m"), [call, Text(text="a")], end)
    last = {"type": "abort"}
    if end.status != "stopped":
        last = {"type": "error", "errorText": end.detail}

    assert events[-3:] == [{"type": "text-end", "id": "1"}, last, "[DONE]"]
    # The call may not be complete.
    assert [event["type"] for event in read(UIMessageReader("m"), [call], end)[2:-1]] == [
        "tool-input-start",
        "tool-input-delta",
        last["type"],
    ]


def test_the_events_of_ag_ui_belong_to_messages() -> None:
    ids = {"threadId": "t", "runId": "c"}

    assert read(AGUIReader("r", ids), STEPS) == [
        {"type": "RUN_STARTED", **ids},
        {"type": "REASONING_START", "messageId": "r-1"},
        {"type": "REASONING_MESSAGE_START", "messageId": "r-1", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "r-1", "delta": "Hm"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "r-1", "delta": "m."},
        {"type": "REASONING_MESSAGE_END", "messageId": "r-1"},
        {"type": "REASONING_END", "messageId": "r-1"},
        {"type": "TEXT_MESSAGE_START", "messageId": "r-2", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "r-2", "delta": "Let me "},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "r-2", "delta": "look."},
        {"type": "TEXT_MESSAGE_END", "messageId": "r-2"},
        {
            "type": "TOOL_CALL_START",
            "toolCallId": "a",
            "toolCallName": "add",
            "parentMessageId": "r-2",
        },
        {"type": "TOOL_CALL_ARGS", "toolCallId": "a", "delta": '{"x":'},
        {
            "type": "TOOL_CALL_START",
            "toolCallId": "b",
            "toolCallName": "now",
            "parentMessageId": "r-2",
        },
        {"type": "TOOL_CALL_ARGS", "toolCallId": "a", "delta": "1}"},
        {"type": "TOOL_CALL_END", "toolCallId": "a"},
        {"type": "TOOL_CALL_END", "toolCallId": "b"},
        {
            "type": "TOOL_CALL_RESULT",
            "messageId": "r-3",
            "toolCallId": "a",
            "content": '{"sum": 2}',
            "role": "tool",
        },
        {
            "type": "TOOL_CALL_RESULT",
            "messageId": "r-4",
            "toolCallId": "b",
            "content": "noon",
            "role": "tool",
        },
        {"type": "TEXT_MESSAGE_START", "messageId": "r-5", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "r-5", "delta": "2 at noon."},
        {"type": "TEXT_MESSAGE_END", "messageId": "r-5"},
        {"type": "RUN_FINISHED", **ids, "usage": [{"inputTokens": 3, "outputTokens": 4}]},
    ]


@pytest.mark.parametrize("make", FORMATS[1:])
def test_an_empty_text_begins_nothing(make: Callable[[], Reader]) -> None:
    assert read(make(), [Text(text=""), Reasoning(text="")]) == read(make(), [])


def test_tool_calls_of_ag_ui_that_follow_results_are_a_new_message() -> None:
    items = [
        ToolCall(id="a", name="x"),
        ToolCall(id="b", name="x"),
        ToolResult(id="a", result=1),
        ToolCall(id="c", name="x"),
    ]
    events = read(AGUIReader("r", {}), items)

    starts = [event for event in events if event["type"] == "TOOL_CALL_START"]
    assert [event["parentMessageId"] for event in starts] == ["r-1", "r-1", "r-3"]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.status)
def test_a_run_of_ag_ui_that_is_not_complete_ends_with_an_error(end: End) -> None:
    *_, last = read(AGUIReader("r", {}), [Text(text="a")], end)

    assert last == {"type": "RUN_ERROR", "message": end.detail, "code": end.status}


@pytest.mark.parametrize("make", FORMATS)
def test_a_format_skips_what_is_not_an_event_of_a_chat(make: Callable[[], Reader]) -> None:
    others = [{"type": "sources"}, {"type": "text"}, [1], Message("x", "progress")]
    nothing = [event.get("type") for event in read(make(), []) if event != "[DONE]"]

    assert [event.get("type") for event in read(make(), others) if event != "[DONE]"] == nothing


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("text", ["\r", "a\n\nb", "\u2028\u2029\x85", "\0", "😀", '"\\', " x "])
def test_a_text_arrives_exactly_in_lines_of_ascii(make: Callable[[], Reader], text: str) -> None:
    body = make().encode(Event("e-1", 1, 0, "run:x", message_of(Text(text=text)), 0.0))
    *_, last = [json.loads(block[6:]) for block in body.split(b"\n\n")[:-1]]

    assert body.isascii()
    assert text == (last["choices"][0]["delta"]["content"] if "choices" in last else last["delta"])
