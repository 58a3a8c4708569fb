"""A chat over a socket: each format streams, ends as its clients expect, and can be resumed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.realtime.chat import (
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

from ...service import Service
from .model import AG_UI, OPENAI, UI, Model, ask, events_of, question, raw, text_of, until

LONG = "".join(f"{number} " for number in range(500))
HELLO = {"role": "user", "content": "Hello"}


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def service(serve: Callable[..., Any], model: Model) -> Service:
    started: Service = await serve(model.router)
    return started


@pytest.mark.parametrize("path", [OPENAI, UI, AG_UI])
async def test_a_piece_arrives_before_the_next_one_is_written(
    service: Service, model: Model, path: str
) -> None:
    async with service.client() as client, client.stream(
        "POST", path, json=question(path)
    ) as response:  # fmt: skip
        events = events_of(response)
        for text in ("a", "b"):
            await model.say(service, Text(text=text))
            await until(text, events)
        await model.say(service, None)
        rest = [event async for event in events]

    assert rest != []
    assert model.asked == [{"messages": [HELLO], "tools": [], "options": model.asked[0]["options"]}]


@pytest.mark.parametrize(("path", "last"), [(OPENAI, "[DONE]"), (UI, "[DONE]"), (AG_UI, None)])
async def test_nothing_follows_the_last_event(
    service: Service, model: Model, path: str, last: str | None
) -> None:
    await model.say(service, Text(text="a"), None)
    async with service.raw_connection() as peer:
        await peer.send(raw(service, path, "Connection: close"))
        received = (await peer.read_to_end()).decode()

    assert received.endswith("\r\n0\r\n\r\n")
    assert "event:" not in received
    events = received.split("data: ")
    assert events[-1].split("\n\n")[0] == last if last else '"RUN_FINISHED"' in events[-1]


async def test_without_stream_the_answer_is_one_document(service: Service, model: Model) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2)
    await model.say(service, Reasoning(text="Hm"), Text(text="a"), "b", usage, None)
    async with service.client() as client:
        response = await client.post(OPENAI, json=question(OPENAI, stream=False, model="m"))

    body = response.json()
    message = {"role": "assistant", "content": "ab", "reasoning_content": "Hm"}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert (body["object"], body["model"]) == ("chat.completion", "m")
    assert body["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def test_without_stream_a_failure_is_the_status(service: Service, model: Model) -> None:
    await model.say(service, Text(text="a"), Problem(502, "The model does not respond."))
    async with service.client() as client:
        response = await client.post(OPENAI, json=question(OPENAI, stream=False))

    assert response.status_code == 502
    assert response.json()["detail"] == "The model does not respond."


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (
            OPENAI,
            {"error": {"message": "No.", "type": "server_error", "code": "failed", "param": None}},
        ),
        (UI, {"type": "error", "errorText": "No."}),
        (AG_UI, {"type": "RUN_ERROR", "message": "No.", "code": "failed"}),
    ],
)
async def test_an_error_after_some_text_is_visible(
    service: Service, model: Model, path: str, error: Any
) -> None:
    await model.say(service, Text(text="a"), Problem(502, "No."))
    events = await ask(service, path)

    assert text_of(events) == "a"
    assert [event for event in events if event != "[DONE]"][-1] == error
    assert ("[DONE]" in events) == (path == UI)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_for_openai_is_stopped_when_its_client_leaves(
    service: Service, model: Model, stream: bool
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(raw(service, OPENAI, stream=stream))
        await model.started()
        peer.reset()

    assert await model.closed()
    assert await service.outcome_of(f"POST {OPENAI}") == "client_abort"


async def test_with_a_key_the_answer_continues_and_a_repeated_request_gets_it(
    service: Service, model: Model
) -> None:
    headers = {"Idempotency-Key": "k"}
    await model.say(service, Text(text="a"))
    async with service.client() as client, client.stream(
        "POST", OPENAI, json=question(OPENAI), headers=headers
    ) as response:  # fmt: skip
        [*_, event] = await until("a", events_of(response))
    await model.say(service, Text(text="b"), None)
    events = await ask(service, OPENAI, headers=headers)
    again = await ask(service, OPENAI, headers=headers)
    async with service.client() as client:
        other = await client.post(OPENAI, json=question(OPENAI, "Bye"), headers=headers)

    assert (text_of(events), text_of(again)) == ("ab", "ab")
    assert {each["id"] for each in [*events[:-1], *again[:-1]]} == {event["id"]}
    assert len(model.asked) == 1
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")


async def test_a_page_that_is_loaded_again_gets_the_same_message(
    service: Service, model: Model
) -> None:
    await model.say(service, Text(text="a"), Text(text="b"))
    async with service.client() as client:
        async with client.stream("POST", UI, json=question(UI)) as response:
            posted = events_of(response)
            [start, *_] = await until("ab", posted)
        async with client.stream("GET", f"{UI}/c/stream") as response:
            resumed = events_of(response)
            again = await anext(resumed)
            await model.say(service, Text(text="c"), None)
            rest = [event async for event in resumed]
        after = await client.get(f"{UI}/c/stream")
        other = await client.get(f"{UI}/d/stream")

    assert again == start
    assert text_of(rest) == "abc"
    assert rest[-1] == "[DONE]"
    assert (after.status_code, other.status_code) == (204, 204)


async def test_a_message_that_is_sent_twice_is_answered_once(
    service: Service, model: Model
) -> None:
    await model.say(service, Text(text="a"), None)
    first, second = await asyncio.gather(ask(service, UI), ask(service, UI))
    await model.say(service, Text(text="b"), None)
    third = await ask(service, UI, trigger="regenerate-message")

    assert first[0] == second[0] != third[0]
    assert [text_of(events) for events in (first, second, third)] == ["a", "a", "b"]
    assert len(model.asked) == 2


async def test_a_stopped_answer_is_aborted_and_no_error(service: Service, model: Model) -> None:
    async with service.client() as client, client.stream(
        "POST", UI, json=question(UI)
    ) as response:  # fmt: skip
        events = events_of(response)
        start = await anext(events)
        stopped = await client.post(f"/runs/{start['messageId']}/stop")
        rest = [event async for event in events]

    assert stopped.status_code == 202
    assert rest[-2:] == [{"type": "abort"}, "[DONE]"]
    assert await model.closed()


@pytest.mark.parametrize("path", [UI, AG_UI])
async def test_a_tool_of_the_client_ends_the_answer(
    service: Service, model: Model, path: str
) -> None:
    await model.say(service, ToolCall(id="a", name="add", arguments="{}"), None)
    events = await ask(service, path)

    kinds = [event["type"] for event in events if event != "[DONE]"]
    assert ("tool-input-available" if path == UI else "TOOL_CALL_END") in kinds
    assert kinds[-1] == ("finish" if path == UI else "RUN_FINISHED")


async def test_a_late_client_gets_a_long_answer_in_few_events(
    service: Service, model: Model
) -> None:
    await model.say(service, *[Text(text=f"{number} ") for number in range(500)])
    async with service.client() as client:
        async with client.stream("POST", UI, json=question(UI)) as response:
            await until(LONG, events_of(response))
        async with client.stream("GET", f"{UI}/c/stream") as response:
            await model.say(service, None)
            events = [event async for event in events_of(response)]

    assert text_of(events) == LONG
    assert len(events) < 20


@pytest.mark.parametrize("path", [OPENAI, UI, AG_UI])
async def test_a_wrong_or_hostile_request_starts_nothing(
    service: Service, model: Model, path: str
) -> None:
    deep = b"[" * 250 + b"]" * 250
    async with service.client() as client:
        client.headers["Content-Type"] = "application/json"
        for body in (b"{}", b'{"messages":[]}', b'{"x":%b}' % deep, b"[" * 100_000):
            response = await client.post(path, content=body)
            assert response.status_code in (400, 422), body[:20]
        response = await client.post(path, json=question(path, "x" * (1 << 20)))

    assert response.status_code == 413
    assert model.asked == []
