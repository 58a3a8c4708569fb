"""Requests in the formats of clients become the messages, tools and options of OpenAI."""

import json
import time
from typing import Any

import pytest
from pydantic import ValidationError

from {{cookiecutter.package_name}}.engine.realtime.chat import (
    ChatCompletionRequest,
    Finish,
    Reasoning,
    RunAgentInput,
    Text,
    ToolCall,
    ToolResult,
    UIChatRequest,
    Usage,
    text_of,
)
from {{cookiecutter.package_name}}.engine.realtime.messages import message_of

HI = {"role": "user", "content": "hi"}
ADD = {"name": "add", "description": "Add.", "parameters": {"type": "object"}}
CALL = {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def ui(*messages: dict[str, Any], **members: Any) -> UIChatRequest:
    found = [{"id": f"m{number}", **message} for number, message in enumerate(messages)]
    return UIChatRequest.model_validate({"id": "c", "messages": found, **members})


def agent(*messages: dict[str, Any], **members: Any) -> RunAgentInput:
    ids = {"threadId": "t", "runId": "r", "state": {}}
    return RunAgentInput.model_validate({**ids, "messages": list(messages), **members})


def test_a_completion_request_passes_messages_tools_and_options_on() -> None:
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", "cache": 1}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
        {"role": "tool", "content": "3", "tool_call_id": "a"},
        {"role": "assistant"},
    ]
    tools = [{"type": "function", "function": ADD}]
    body = {"model": "m", "messages": messages, "tools": tools, "stream": True, "temperature": 0}

    assert ChatCompletionRequest.model_validate(body).parameters() == {
        "messages": messages,
        "tools": tools,
        "options": {"model": "m", "temperature": 0},
    }


def test_a_completion_is_rendered_from_all_messages() -> None:
    items = [
        Reasoning(text="H"),
        Text(text="a"),
        Reasoning(text="m"),
        Text(text="b"),
        ToolCall(id="0", name="now"),
        ToolResult(id="0", result=1),
        ToolCall(id="a", name="add", arguments="{"),
        ToolCall(id="a", arguments="}"),
        Usage(prompt_tokens=1, completion_tokens=2),
    ]
    render = ChatCompletionRequest.model_validate({"messages": [HI], "model": "m"}).render("r")
    body = render([message_of(item) for item in items])

    assert body.pop("created") == pytest.approx(time.time(), abs=60)
    assert body == {
        "id": "chatcmpl-r",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "ab",
                    "reasoning_content": "Hm",
                    "tool_calls": [CALL],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


@pytest.mark.parametrize(
    ("items", "content", "reason"),
    [
        ([], "", "stop"),
        (["a", Finish(reason="length")], "a", "length"),
        ([ToolCall(id="a", name="add")], None, "tool_calls"),
    ],
)
def test_the_content_is_null_only_if_there_are_tool_calls(
    items: list[Any], content: str | None, reason: str
) -> None:
    render = ChatCompletionRequest.model_validate({"messages": [HI]}).render("r")
    [choice] = render([message_of(item) for item in items])["choices"]

    assert (choice["message"]["content"], choice["finish_reason"]) == (content, reason)


def test_the_messages_of_use_chat_are_those_of_openai() -> None:
    picture = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}
    paper = {"type": "file", "mediaType": "application/pdf", "url": "data:,x", "filename": "a.pdf"}
    request = ui(
        {"role": "system", "parts": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "parts": [picture, paper, {"type": "text", "text": "c"}]},
        model="m",
    )

    assert request.parameters() == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "ab"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:,x"}},
                    {"type": "text", "text": "c"},
                ],
            },
        ],
        "tools": [],
        "options": {"model": "m"},
    }


def test_each_step_of_an_answer_is_followed_by_the_results_of_its_tools() -> None:
    def tool(number: int, state: str, **members: Any) -> dict[str, Any]:
        call = {"type": "tool-add", "toolCallId": f"{number}", "state": state, "input": {"x": 1}}
        return call | members

    parts = [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hm."},
        tool(0, "input-streaming"),
        tool(1, "output-available", output={"sum": 1}),
        tool(2, "output-error", errorText="No."),
        tool(3, "output-available", output="1", type="dynamic-tool", toolName="sub"),
        {"type": "step-start"},
        {"type": "source-url", "url": "x"},
        {"type": "text", "text": "So "},
        {"type": "text", "text": "1."},
        tool(4, "output-denied"),
        {"type": "step-start"},
    ]

    def call(number: int, name: str = "add") -> dict[str, Any]:
        function = {"name": name, "arguments": '{"x":1}'}
        return {"id": f"{number}", "type": "function", "function": function}

    def result(number: int, content: str) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": f"{number}", "content": content}

    assert ui({"role": "assistant", "parts": parts}).parameters()["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [call(1), call(2), call(3, "sub")],
        },
        result(1, '{"sum":1}'),
        result(2, "No."),
        result(3, "1"),
        {"role": "assistant", "content": "So 1.", "tool_calls": [call(4)]},
        result(4, "The user has denied the call."),
    ]


def test_a_submission_has_one_key_and_other_submissions_other_ones() -> None:
    def say(text: str, **members: Any) -> str | None:
        return ui({"role": "user", "parts": [{"type": "text", "text": text}]}, **members).once

    assert say("a") == say("a", trigger="submit-message")
    assert len({say("a"), say("b"), say("a", id="d")}) == 3
    assert say("a", trigger="regenerate-message") is None


def test_an_answer_continues_the_last_message_if_that_is_an_answer() -> None:
    text = {"parts": [{"type": "text", "text": "a"}]}

    asked, answered = ui({"role": "user", **text}), ui({"role": "assistant", **text})
    assert b'"messageId":"run"' in asked.reader("run").begin(1)
    assert b'"messageId":"m0"' in answered.reader("run").begin(1)


def source(kind: str, **members: str) -> dict[str, Any]:
    return {"type": kind, "source": members}


PARTS: list[Any] = [
    {"type": "text", "text": "see"},
    source("image", type="url", value="http://x/a.png"),
    source("image", type="data", value="AA==", mimeType="image/png"),
    source("audio", type="data", value="AA==", mimeType="audio/wav"),
    source("document", type="data", value="AA==", mimeType="application/pdf"),
    source("document", type="file", value="f1"),
]
#: The same in the form of OpenAI.
CONVERTED: list[Any] = [
    {"type": "text", "text": "see"},
    {"type": "image_url", "image_url": {"url": "http://x/a.png"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    {
        "type": "file",
        "file": {
            "filename": "file",
            "file_data": "data:application/pdf;base64,AA==",
        },
    },
    {"type": "file", "file": {"file_id": "f1"}},
]


def test_the_input_of_an_agent_is_a_request_of_openai() -> None:
    request = agent(
        {"id": "1", "role": "developer", "content": "Be brief."},
        {"id": "2", "role": "user", "content": PARTS},
        {"id": "3", "role": "reasoning", "content": "Hm."},
        {"id": "4", "role": "activity", "activityType": "PLAN", "content": {"steps": []}},
        {"id": "5", "role": "assistant", "toolCalls": [CALL]},
        {"id": "6", "role": "tool", "content": "3", "toolCallId": "a"},
        tools=[ADD],
        context=[{"description": "page", "value": "home"}],
        forwardedProps={"model": "m"},
    )

    assert request.parameters() == {
        "messages": [
            {"role": "system", "content": "page: home"},
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": CONVERTED},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "3", "tool_call_id": "a"},
        ],
        "tools": [{"type": "function", "function": ADD}],
        "options": {"model": "m"},
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [("a", "a"), (None, ""), ([{"type": "text", "text": "a"}, {"type": "x"}, {"text": "b"}], "ab")],
)
def test_the_text_of_a_message_has_no_other_parts(content: Any, text: str) -> None:
    assert text_of({"role": "user", "content": content}) == text


NESTED: Any = json.loads("[" * 300 + "]" * 300)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": [{"role": "user", "content": ["a"]}]},
        {"messages": [HI], "tools": [{"type": "function", "function": {}}]},
        {"messages": [HI], "model": "m" * 300},
        {"messages": [HI], "n": 2},
        {"messages": [HI], "seed": NESTED},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [HI], "user": "\ud800"},
    ],
    ids=range(11),
)
def test_a_wrong_request_is_not_valid(body: Any) -> None:
    with pytest.raises(ValidationError):
        ChatCompletionRequest.model_validate(body)


@pytest.mark.parametrize("item", ["{}", '{"role":"user"}', '{"id":"1","role":"user","parts":[{}]}'])
@pytest.mark.parametrize("kind", [ChatCompletionRequest, UIChatRequest, RunAgentInput])
def test_a_hostile_request_has_few_errors(kind: Any, item: str) -> None:
    many = json.loads(f"[{','.join([item] * ((1 << 20) // len(item)))}]")
    body = {"id": "c", "threadId": "t", "runId": "r", "messages": many}
    errors = 0
    try:
        kind.model_validate(body).parameters()
    except ValidationError as error:
        errors = error.error_count()

    assert errors < 10
