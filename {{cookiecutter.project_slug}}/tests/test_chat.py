"""Tests of the chat, with the stand-in for the model."""

import json
from typing import Any

import httpx

QUESTION = [{"role": "user", "content": "Hello there"}]


def records(body: str) -> list[Any]:
    """Return the data of the events of a stream, without `[DONE]`."""
    data = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def ui_request(chat_id: str, text: str) -> dict[str, Any]:
    """Return a request of `useChat`."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat_id, "messages": [message], "trigger": "submit-message"}


async def test_a_client_of_openai_gets_chunks(client: httpx.AsyncClient) -> None:
    body = {"model": "echo", "messages": QUESTION, "stream": True}
    stream = await client.post("/v1/chat/completions", json=body)

    choices = [chunk["choices"][0] for chunk in records(stream.text)]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Hello there"
    assert choices[-1]["finish_reason"] == "stop"
    assert stream.text.endswith("data: [DONE]\n\n")


async def test_a_client_of_openai_gets_one_document(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json={"messages": QUESTION})

    assert response.json()["choices"][0]["message"]["content"] == "Hello there"
    assert response.json()["usage"]["total_tokens"] == 4


async def test_a_reply_is_generated_once(client: httpx.AsyncClient) -> None:
    first = await client.post("/chat", json=ui_request("c1", "Hello"))
    again = await client.post("/chat", json=ui_request("c1", "Hello"))
    ended = await client.get("/chat/c1/stream")

    start = records(first.text)[0]
    assert "".join(record.get("delta", "") for record in records(first.text)) == "Hello"
    assert records(again.text)[0] == start  # with the id of the reply
    assert ended.status_code == 204


async def test_a_reply_is_stopped(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/chat", json=ui_request("c2", "word " * 1000)) as stream:
        stopped = await client.post("/chat/c2/stop")
        body = (await stream.aread()).decode()

    assert stopped.status_code == 204
    assert {"type": "abort"} in records(body)
