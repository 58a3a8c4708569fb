"""The answers of a chat belong to the principal that has asked."""

import asyncio
import json
from typing import Any

import pytest
from httpx import AsyncClient

from ...service import Service
from .senders import bearer, key_of

BODY: dict[str, Any] = {
    "id": "c",
    "threadId": "t",
    "runId": "r",
    "messages": [
        {"id": "1", "role": "user", "content": "x", "parts": [{"type": "text", "text": "x"}]}
    ],
}
START, FOLLOW = "runs:start", "runs:follow"


async def test_another_owner_has_another_answer(service: Service, client: AsyncClient) -> None:
    alice, bob = (bearer(key_of(service, owner, START, FOLLOW)) for owner in ("alice", "bob"))

    part = {"type": "text", "text": "x" * 4000}
    body = BODY | {"messages": [{"id": "1", "role": "user", "parts": [part]}]}

    async def first(headers: dict[str, str]) -> str:
        async with client.stream("POST", "/chat", json=body, headers=headers) as response:
            line = await anext(response.aiter_lines())
            return str(json.loads(line.removeprefix("data: "))["messageId"])

    asked = await first(alice)
    assert (await client.get("/chat/c/stream", headers=bob)).status_code == 204
    assert (await client.post("/chat/c/stop", headers=bob)).status_code == 204
    assert await first(alice) == asked
    assert await first(bob) != asked
    assert (await client.post("/chat/c/stop", headers=alice)).status_code == 204
    async with client.stream("GET", "/chat/c/stream", headers=bob) as response:
        assert response.status_code == 200
    while (await client.get("/chat/c/stream", headers=alice)).status_code != 204:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("grants", "start", "follow"),
    [((START,), 200, 403), ((FOLLOW,), 403, 204), (("files:read",), 403, 403), (None, 401, 401)],
)
async def test_a_chat_needs_scopes(
    service: Service,
    client: AsyncClient,
    grants: tuple[str, ...] | None,
    start: int,
    follow: int,
) -> None:
    headers = bearer(None if grants is None else key_of(service, "alice", *grants))
    found = [
        (await client.post(path, json=BODY | {"id": path}, headers=headers)).status_code
        for path in ("/v1/chat/completions", "/chat", "/ag-ui")
    ]
    models = await client.get("/v1/models", headers=headers)
    stopped = await client.post("/chat/x/stop", headers=headers)
    followed = await client.get("/chat/x/stream", headers=headers)

    assert found == [start] * 3
    assert models.status_code == start
    assert stopped.status_code == (204 if start == 200 else start)
    assert followed.status_code == follow
