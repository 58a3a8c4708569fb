"""Streams end within a second or two after their key has expired or was revoked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from httpx import RemoteProtocolError
from websockets.asyncio.client import connect

from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.store import KeyStore

from ...peer import PATIENCE
from ...service import Service
from ..conversation import converse
from ..runs import Follower, Script
from ..subscriber import Subscriber, publish
from .senders import LINES, SSE, bearer, key_of, line
from .test_runs import RUNS, start

FOLLOW = "topics:subscribe:*"
#: Seconds in which a stream ends.
SOON = 1.5


async def last_words(
    service: Service, url: str, headers: dict[str, str], end: Callable[[], None]
) -> str:
    """Return the rest of a response after its first part, when the key has ended."""
    loop = asyncio.get_running_loop()
    async with service.client() as client, client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200
        parts = response.aiter_text()
        if "poll" not in url and "silent" not in url:
            await anext(parts)
        await asyncio.to_thread(end)
        ended_at = loop.time()
        rest = "".join([part async for part in parts])
        assert loop.time() - ended_at < max(SOON, PATIENCE / 10)
        return rest


@pytest.mark.parametrize(
    ("url", "accept", "words"),
    [
        ("/topics/t/events", SSE, "event: reauth\ndata: {}\n\n"),
        ("/topics/t/events", LINES, '{"event": "reauth", "data": {}}\n'),
        ("/topics/t/events?poll=60", "*/*", '{"events":[],"last_event_id":"'),
        ("/native", SSE, "event: reauth\ndata: {}\n\n"),
        ("/silent", SSE, "event: reauth\ndata: {}\n\n"),
    ],
)
async def test_a_stream_of_a_revoked_key_ends(
    service: Service, end_key: Callable[[str], None], url: str, accept: str, words: str
) -> None:
    key = key_of(service, "alice", FOLLOW, name="phone", seconds=3600)
    headers = bearer(key) | {"Accept": accept}
    rest = await last_words(service, url, headers, lambda: end_key("phone"))
    async with service.client() as client:
        again = await client.get(url, headers=headers)

    assert rest.startswith(words) if "poll" in url else rest.endswith(words)
    assert again.status_code == 401
    assert 'error="invalid_token"' in again.headers["WWW-Authenticate"]


async def test_a_client_that_reads_slowly_gets_no_event_from_after_the_end_of_its_key(
    serve: Callable[..., Any],
) -> None:
    size = 1 << 20
    service = await serve(realtime={"policies": "t=latest", "max_event_size": 2 * size})
    key = key_of(service, "alice", FOLLOW, name="phone")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("t", line(key))
        await publish(service, "t", *[f"{number}{'x' * size}" for number in range(16)])
        service.app.state.authenticator.store.revoke("phone")
        service.app.state.authenticator.end_invalid()
        await publish(service, "t", "after")
        _, events = await subscriber.until("reauth")

    assert events
    assert "after" not in [event["data"] for event in events]


async def test_an_event_stream_that_never_ends_its_event_ends(serve: Callable[..., Any]) -> None:
    router = APIRouter()

    @router.get("/pieces")
    async def pieces() -> StreamingResponse:
        async def source() -> AsyncIterator[str]:
            while True:
                yield "data: piece\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(source(), media_type=SSE)

    service = await serve(router, access={"grace": 0.2})
    headers = bearer(key_of(service, "alice", name="phone"))

    def end() -> None:
        service.app.state.authenticator.store.revoke("phone")

    with pytest.raises(RemoteProtocolError):
        await last_words(service, "/pieces", headers, end)


@pytest.mark.parametrize("path", ["/topics/t/ws", "/echo", "/feed"])
async def test_a_websocket_of_a_revoked_key_is_closed(
    service: Service, end_key: Callable[[str], None], path: str
) -> None:
    key = key_of(service, "alice", FOLLOW, name="phone", seconds=3600)
    url, headers = f"ws://127.0.0.1:{service.port}{path}", bearer(key)
    async with connect(url, proxy=None, additional_headers=headers) as socket:
        if path == "/echo":
            await socket.send("first")
        await socket.recv()
        await asyncio.to_thread(end_key, "phone")
        async with asyncio.timeout(max(SOON, PATIENCE / 10)):
            await socket.wait_closed()

    assert socket.close_code == 4401


async def test_a_run_continues_and_its_followers_are_told(
    service: Service, script: Script, end_key: Callable[[str], None]
) -> None:
    first = key_of(service, "alice", *RUNS, name="phone", seconds=3600)
    async with service.client() as client, service.raw_connection() as peer:
        run_id = await start(client, first)
        follower = Follower(peer)
        await follower.follow(run_id, line(first))
        await script.say(service, "a")
        told = await follower.block()
        await asyncio.to_thread(end_key, "phone")
        assert (await follower.next("reauth"))["data"] == "{}"
        refused = await client.get(f"/runs/{run_id}/events", headers=bearer(first))
        second = key_of(service, "alice", *RUNS, seconds=1e10)
        await script.say(service, "b", None)
        resumed = bearer(second) | {"Last-Event-ID": told["id"]}
        rest = await client.get(f"/runs/{run_id}/events", headers=resumed)

    assert refused.status_code == 401
    assert "data: b\n" in rest.text
    assert '{"status":"complete"}' in rest.text


async def test_other_keys_of_the_principal_are_not_touched(
    service: Service, tmp_path: Path
) -> None:
    first = key_of(service, "alice", FOLLOW, name="phone")
    second = key_of(service, "alice", FOLLOW, "topics:publish:*", name="laptop")
    async with (
        converse(service, "t", additional_headers=bearer(first)) as ended,
        converse(service, "t", additional_headers=bearer(second)) as open_,
        service.raw_connection() as peer,
    ):
        subscriber = Subscriber(peer)
        await subscriber.open("t", line(second))
        store = KeyStore(LocalDatabase(tmp_path / "access.sqlite3"), frozenset)
        store.revoke("phone")
        store.close()
        assert await ended.closed() == 4401
        assert (await open_.ask("publish", topic="t", data=1))["type"] == "ack"
        assert (await subscriber.block())["data"] == "1"
