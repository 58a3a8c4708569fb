"""WebSocket clients that send much: large handshakes, many frames, and early frames."""

import asyncio
import json
import threading
from typing import Any

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.engine.server.websocket import WebSocketConnection

from ..peer import PATIENCE
from ..service import Service
from ..test_turns import longest_run
from .conversation import PING, ROUTE, TEXT, frame, shake_hands
from .test_websocket_faults import PUBLISH, connection_of

FIELDS = (
    b"Host: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def handshake(target: bytes = b"/topics/news/ws", more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, FIELDS, more)


@pytest.mark.bound("1.1")
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(handshake(more=b"Cookie: " + b"c" * 9000 + b"\r\n"), id="a line of 9 KB"),
        pytest.param(handshake(more=b"X: y\r\n" * 140), id="140 lines"),
        pytest.param(handshake(b"/topics/news/ws?q=" + b"c" * 9000), id="a target of 9 KB"),
        pytest.param(handshake(b"http://test/topics/news/ws"), id="an absolute target"),
    ],
)
async def test_a_handshake_within_the_limits_of_a_head_opens(serve: Any, sent: bytes) -> None:
    service: Service = await serve(server={"max_header_fields": 145})
    async with service.raw_connection() as peer:
        await peer.send(sent)
        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
        assert b"subscribed" in await peer.read_until(b"}")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(handshake(more=b"X: y\r\n" * 96), b"431", marks=pytest.mark.bound("1.2")),
        (handshake(more=b"X: " + b"y" * (70 << 10) + b"\r\n"), b"431"),
        (handshake(b"/topics/n\xc3\xa9ws/ws"), b"400"),
        (handshake(b"/topics/news/ws?q=\xc3\xa9"), b"400"),
    ],
)
async def test_any_other_is_refused_and_closed(
    service: Service, sent: bytes, status: bytes
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(sent)
        assert (await peer.read_to_end()).startswith(b"HTTP/1.1 %b " % status)


@pytest.mark.bound("1.3")
async def test_frames_in_front_of_the_answer_wait_for_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()
    hub = service.app.state.hub
    subscribe = hub.subscribe

    async def subscribe_late(*arguments: Any) -> Any:
        asked.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return await subscribe(*arguments)

    monkeypatch.setattr(hub, "subscribe", subscribe_late)
    async with service.raw_connection() as peer:
        await peer.send(handshake() + frame(PING, b"early"))
        assert await anyio.to_thread.run_sync(asked.wait, PATIENCE)
        await peer.send(frame(PING, b"late") + PUBLISH)
        for _ in range(10):
            await service.call(lambda: None)
        go_on.set()
        answered = await peer.read_until(b'"ack"')

    assert answered.startswith(b"HTTP/1.1 101 ")
    assert answered.index(b"subscribed") > answered.index(b"\r\n\r\n")
    assert answered.index(b"\x8a\x05early") < answered.index(b"\x8a\x04late")


@pytest.mark.bound("3.1")
async def test_the_frames_of_one_read_take_several_turns(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[None] = []
    original = WebSocketConnection.handle_cont

    def counted(connection: WebSocketConnection, event: Any) -> None:
        found.append(None)
        original(connection, event)

    monkeypatch.setattr(WebSocketConnection, "handle_cont", counted)
    message = frame(TEXT, b"x", last=False) + frame(0, b"x", last=False) * 999 + frame(0, b"x")
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        connection = connection_of(service)
        longest = await service.in_server(
            longest_run(lambda: connection.data_received(message * 10), lambda: len(found))
        )
        assert await service.outcome_of(ROUTE) == "rejected"  # None of them is a command.
    assert 0 < longest <= 2000


@pytest.mark.bound("3.3")
async def test_few_messages_wait_for_the_application_and_all_are_obeyed(service: Service) -> None:
    number = 1000
    commands = [
        json.dumps({"type": "unsubscribe", "topics": ["x"], "ref": each}).encode()
        for each in range(number)
    ]
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        connection = connection_of(service)

        def receive() -> int:
            connection.data_received(b"".join(frame(TEXT, each) for each in commands))
            return int(connection.queue.qsize())

        assert 1 <= await service.call(receive) <= 100
        answered = await peer.read_until(b'"ref":%d}' % (number - 1))
    refs = [int(each.partition(b"}")[0]) for each in answered.split(b'"ref":')[1:]]
    assert refs == list(range(number))


async def test_what_follows_a_close_is_not_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    keep = WebSocketConnection._keep

    def noted(self: Any, data: bytes) -> None:
        kept.append(len(data))
        keep(self, data)

    monkeypatch.setattr(WebSocketConnection, "_keep", noted)
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        await peer.send(frame(TEXT, b"") * 60_000)
        await peer.read_until(b"These are no commands")
        await peer.send(frame(TEXT, b"") * 200_000 + frame(8, b""))
        await peer.read_to_end()

    assert 0 < max(kept) <= 512 << 10
