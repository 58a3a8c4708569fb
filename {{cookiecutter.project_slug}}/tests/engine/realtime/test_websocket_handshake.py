"""The opening handshake: valid and refused requests, and clients that leave."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from fastapi import APIRouter, WebSocket
from fastapi.staticfiles import StaticFiles

from {{cookiecutter.package_name}}.engine.kernel import Problem

from ..peer import PATIENCE
from ..service import Service
from .conversation import ROUTE, converse
from .test_websocket_faults import connection_of

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ["Upgrade: websocket", "Connection: keep-alive, Upgrade"]
VERSION = "Sec-WebSocket-Version: 13"
TOPIC = "/topics/news/ws"

router = APIRouter()


@router.websocket("/own")
async def own(websocket: WebSocket) -> None:
    await websocket.accept(next(iter(websocket.scope["subprotocols"][1:]), None))
    await websocket.receive_text()


async def ask(
    service: Service, *headers: str, path: str = TOPIC, method: str = "GET", version: str = "1.1"
) -> tuple[int, list[str], bytes]:
    """Return the status, the headers in lower case, and the body of a response."""
    lines = [f"{method} {path} HTTP/{version}", "Host: test", "Connection: close", *headers]
    async with service.raw_connection() as peer:
        await peer.send("\r\n".join([*lines, "", ""]).encode())
        status, *fields = (await peer.read_head()).decode().lower().split("\r\n")
        body = b"" if "101" in status else await peer.read_to_end()
    return int(status.split()[1]), fields, body


def is_told_to_upgrade(service: Service, answer: tuple[int, list[str], bytes]) -> bool:
    """Whether it is 426 with the headers of RFC 9110 (15.5.22) and RFC 6455 (4.4)."""
    status, fields, body = answer
    media_type = f"content-type: {service.app.state.kernel.media_type}"
    needed = {"upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", media_type}
    assert (status, needed - set(fields)) == (426, set())
    return not body or "WebSocket" in json.loads(body)["detail"]


@pytest.mark.fault("F14")
@pytest.mark.parametrize("path", [TOPIC, "/topics/a,b.*/ws", "/own"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_plain_request_is_told_to_upgrade(serve: Any, path: str, method: str) -> None:
    service: Service = await serve(router)
    answer = await ask(service, path=path, method=method)

    assert is_told_to_upgrade(service, answer)
    assert await service.outcome_of(f"{method} (none)") == "rejected"


async def test_a_file_that_a_mount_does_not_have_is_404(serve: Any, tmp_path: Path) -> None:
    mounted = APIRouter()
    mounted.mount("/static", StaticFiles(directory=tmp_path))
    service: Service = await serve(mounted)
    service.app.mount("/more", StaticFiles(directory=tmp_path))

    assert [(await ask(service, path=f"/{each}/x"))[0] for each in ("static", "more")] == [404, 404]


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    "headers",
    [
        [*UPGRADE, KEY, "Sec-WebSocket-Version: 8"],
        [*UPGRADE, KEY, "Sec-WebSocket-Version: 13, 8"],
        [*UPGRADE, KEY, VERSION, VERSION],
        [*UPGRADE, KEY],
        [*UPGRADE, "Sec-WebSocket-Version: 8"],
        ["Upgrade: h2c", "Connection: Upgrade", KEY, VERSION],
        [KEY, VERSION],
    ],
)
async def test_another_version_or_protocol_is_told_to_upgrade(
    service: Service, headers: list[str]
) -> None:
    assert is_told_to_upgrade(service, await ask(service, *headers))


@pytest.mark.fault("F14")
async def test_http_1_0_opens_no_websocket(service: Service) -> None:
    answer = await ask(service, *UPGRADE, KEY, VERSION, version="1.0")
    assert is_told_to_upgrade(service, answer)


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    "keys",
    [
        [],
        [KEY, KEY],
        ["Sec-WebSocket-Key:"],
        ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        ["Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="],
        ["Sec-WebSocket-Key: ?GhlIHNhbXBsZSBub25jZQ=="],
    ],
)
async def test_a_handshake_without_a_good_key_is_refused(service: Service, keys: list[str]) -> None:
    status, fields, body = await ask(service, *UPGRADE, *keys, VERSION)

    assert status == 400
    assert f"content-type: {service.app.state.kernel.media_type}" in fields
    assert "Sec-WebSocket-Key" in json.loads(body)["detail"]


@pytest.mark.fault("F14")
async def test_another_method_is_told_which_there_are(service: Service) -> None:
    status, fields, _ = await ask(service, method="POST")
    assert (status, "allow: get, head" in fields) == (405, True)


async def test_another_method_opens_no_websocket(service: Service) -> None:
    assert (await ask(service, *UPGRADE, KEY, VERSION, method="POST"))[0] == 400


async def test_what_is_nothing_is_not_found(service: Service) -> None:
    assert (await ask(service, path="/topics/news/wss"))[0] == 404
    assert (await ask(service, *UPGRADE, path="/nothing"))[0] == 404


@pytest.mark.parametrize(
    "offers",
    [
        ["Sec-WebSocket-Protocol: chat, v2.topics"],
        ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: v2"],
    ],
)
async def test_no_subprotocol_is_answered_as_there_is_none(
    service: Service, offers: list[str]
) -> None:
    """RFC 6455, section 4.2.2: without the header a server accepts none of those offered."""
    async with service.raw_connection() as peer:
        await peer.get(TOPIC, *UPGRADE, KEY, VERSION, *offers)
        head = (await peer.read_head()).decode().lower()
        assert b"subscribed" in await peer.read_until(b"}")

    assert head.startswith("http/1.1 101 ")
    assert "sec-websocket-protocol" not in head


async def test_lines_of_offered_subprotocols_are_one_list(serve: Any) -> None:
    service: Service = await serve(router)
    offers = ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b, c"]
    async with service.raw_connection() as peer:
        await peer.get("/own", *UPGRADE, KEY, VERSION, *offers)
        assert "sec-websocket-protocol: b\r\n" in (await peer.read_head()).decode().lower()


@pytest.mark.fault("F14")
@pytest.mark.parametrize("refusal", [None, 503])
async def test_a_client_that_leaves_before_it_is_answered_is_no_error(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refusal: int | None,
) -> None:
    asked, left = threading.Event(), threading.Event()
    hub = service.app.state.hub
    subscribe = hub.subscribe

    async def subscribe_late(*arguments: Any) -> Any:
        asked.set()
        while not left.is_set():
            await asyncio.sleep(0.01)
        if refusal:
            raise Problem(refusal)
        return await subscribe(*arguments)

    monkeypatch.setattr(hub, "subscribe", subscribe_late)
    async with service.raw_connection() as peer, asyncio.timeout(PATIENCE):
        await peer.get(TOPIC, *UPGRADE, KEY, VERSION)
        assert await anyio.to_thread.run_sync(asked.wait, PATIENCE)
        connection = connection_of(service)
        peer.reset()
        while not connection.disconnected:
            await asyncio.sleep(0.01)
        left.set()

        assert await service.outcome_of(ROUTE) == "client_abort"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert hub.subscriptions() == set()


@pytest.mark.fault("F14")
async def test_a_client_that_leaves_a_websocket_of_the_owner_is_no_error(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/own", *UPGRADE, KEY, VERSION)
        await peer.read_head()
        peer.reset()
        assert await service.outcome_of("WEBSOCKET /own") == "client_abort"

    async with converse(service, "news") as client:  # The previous one has ended.
        assert client.greeting["type"] == "subscribed"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
