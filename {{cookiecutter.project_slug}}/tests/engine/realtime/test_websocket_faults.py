"""WebSockets under faults: peers that do not read or vanish, failures, drains."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel.kernel import BOUNDS
from {{cookiecutter.package_name}}.engine.realtime.hub import Hub
from {{cookiecutter.package_name}}.engine.realtime.messages import Message
from {{cookiecutter.package_name}}.engine.realtime.subscription import Subscription

from ..service import SOAK, Service, ServiceProcess
from .conversation import BINARY, CLOSE, PING, PONG, ROUTE, TEXT, converse, frame, shake_hands
from .subscriber import publish


def connection_of(service: Service) -> Any:
    """Return the server's side of the only WebSocket."""
    connections = service._server.server_state.connections
    [connection] = [each for each in connections if hasattr(each, "send_keepalive_ping")]
    return connection


@pytest.mark.trap("R4", "R8")
@pytest.mark.bound("H7")
@pytest.mark.slow
async def test_a_peer_that_stops_reading_is_cut_and_holds_nobody_up(service: Service) -> None:
    text = "x" * 60_000
    async with (
        service.raw_connection(receive_buffer=4096) as stalled,
        converse(service, "news") as reader,
    ):
        await shake_hands(stalled, "news")
        for _ in range(4):
            await publish(service, "news", *[text] * 20)
            assert await reader.data(20) == [text] * 20

        assert await service.outcome_of(ROUTE) == "slow_client"
        with pytest.raises(ConnectionResetError):
            await stalled.read_to_end()


async def test_a_peer_for_whom_nothing_came_for_long_is_not_slow(service: Service) -> None:
    kernel, hub = service.app.state.kernel, service.app.state.hub

    async def publish_and_sweep() -> None:
        [channel] = kernel.channels
        channel.wrote_at -= 60
        await hub.publish("news", Message("a"))
        channel.sweep(asyncio.get_running_loop().time())

    async with converse(service, "news") as client:
        await service.in_server(publish_and_sweep())
        await publish(service, "news", "b")
        assert await client.data(2) == ["a", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc")
@pytest.mark.trap("R8")
@pytest.mark.slow
async def test_peers_that_stop_reading_cost_little(tmp_path: Path) -> None:
    stalled, text = 20, "x" * 5000
    async with (
        ServiceProcess(tmp_path, REALTIME__HISTORY_BYTES="1 MiB") as process,
        converse(process, "news") as reader,
        AsyncExitStack() as stack,
    ):

        async def publish_many(count: int) -> None:
            for _ in range(count):
                await reader.ask("publish", topic="news", data=text)
                assert await reader.data(1) == [text]

        await publish_many(400)
        before = process.peak_memory()
        for _ in range(stalled):
            peer = await stack.enter_async_context(process.raw_connection(4096))
            await shake_hands(peer, "news")
        await publish_many(1200)

        assert process.peak_memory() - before < stalled * (200 << 10)


async def test_a_peer_that_falls_behind_and_reads_on_is_told_to_come_back(serve: Any) -> None:
    service: Service = await serve(
        realtime={"history_bytes": "1 MiB"}, streaming={"send_timeout": 30}
    )
    async with service.raw_connection(receive_buffer=4096) as peer:
        await shake_hands(peer, "news")
        await publish(service, "news", *["x" * 60_000] * 100)
        closing = await peer.read_until(b"too slowly")

    assert closing[-len(b"..You read too slowly") :][:2] == (1013).to_bytes(2, "big")
    assert await service.outcome_of(ROUTE) == "slow_client"


@pytest.mark.slow
async def test_a_peer_that_does_not_take_its_answers_is_not_read_on(service: Service) -> None:
    command = json.dumps({"type": "unsubscribe", "topics": ["x" * 60_000]}).encode()
    async with service.raw_connection(receive_buffer=4096) as peer:
        await shake_hands(peer, "news")
        with pytest.raises(OSError, match=r"reset|pipe"):
            while True:
                await peer.send(frame(TEXT, command))

    exchange = await service.ended(ROUTE)
    assert exchange.outcome == "slow_client"


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.bound("3.2")
async def test_a_peer_that_only_pings_is_closed(
    service: Service, opcode: int, payload: bytes
) -> None:
    before = BOUNDS["server.max_control_frames"]
    async with service.raw_connection(receive_buffer=4096) as peer:
        await shake_hands(peer, "news")
        with suppress(ConnectionError):
            await peer.send(frame(opcode, payload) * 30_000)

        assert await service.outcome_of(ROUTE) == "rejected"
    assert BOUNDS["server.max_control_frames"] == before + 1


async def test_a_peer_may_ping_often(service: Service) -> None:
    pings = 500
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        await peer.send(frame(PING, b"x") * pings)
        assert await peer.read(3 * pings) == b"\x8a\x01x" * pings


async def test_a_peer_that_answers_no_ping_is_given_up(serve: Any) -> None:
    service: Service = await serve(realtime={"heartbeat": 0.05}, streaming={"send_timeout": 0.1})
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")

        assert await service.outcome_of(ROUTE) == "client_abort"


async def test_a_peer_that_is_gone_does_not_stay_for_what_is_buffered(service: Service) -> None:
    async with service.raw_connection(receive_buffer=4096) as peer:
        await shake_hands(peer, "news")
        connection = connection_of(service)
        while not await service.call(connection.transport.get_write_buffer_size):
            await publish(service, "news", "x" * 60_000)
        await service.call(connection.send_keepalive_ping)

        assert await service.outcome_of(ROUTE) == "client_abort"


@pytest.mark.trap("R9")
async def test_nothing_is_left_of_peers_that_vanish(service: Service, no_collector: None) -> None:
    async def tasks() -> int:
        return len(asyncio.all_tasks())

    before = await service.in_server(tasks())
    for _ in range(50 * SOAK):
        async with service.raw_connection() as peer:
            await shake_hands(peer, "news,prices.*")
            await peer.send(frame(TEXT, b'{"type":"subscribe","topics":["more"]}'))
            await peer.read_until(b"more")
            peer.reset()
        assert await service.outcome_of(ROUTE) == "client_abort"

    kernel = service.app.state.kernel
    assert (len(kernel.channels), kernel.streams["realtime"]) == (0, 0)
    assert service.app.state.hub.subscriptions() == set()
    assert await service.in_server(tasks()) == before


@pytest.mark.trap("R13")
@pytest.mark.parametrize("where", ["take", "publish"])
async def test_a_failure_is_told_and_then_closes(
    service: Service, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    async with converse(service, "news") as client:
        monkeypatch.setattr(Subscription if where == "take" else Hub, where, broken)
        await client.send("publish", topic="news", data=1)
        told = await client.next()
        if told["type"] == "ack":
            told = await client.next()

        assert (told["type"], told["problem"]["status"]) == ("error", 500)
        assert "secret" not in str(told)
        assert await client.closed() == 1011
    assert await service.outcome_of(ROUTE) == "server_error"


@pytest.mark.slow
async def test_an_old_connection_is_told_to_come_back(serve: Any) -> None:
    service: Service = await serve(realtime={"max_age": 0.1})
    async with converse(service, "news") as client:
        told = await client.next()

        assert (told["type"], isinstance(told["retry"], int)) == ("reconnect", True)
        assert await client.closed() == 1012
    assert await service.outcome_of(ROUTE) == "complete"


@pytest.mark.trap("R11")
async def test_a_drain_tells_clients_to_come_back(service: Service) -> None:
    async with converse(service, "news") as client:
        await service.call(service.app.state.kernel.drain.begin)
        told = await client.next()

        assert told["type"] == "reconnect"
        assert 1000 <= told["retry"] <= 5000
        assert await client.closed() == 1012
    assert await service.outcome_of(ROUTE) == "drained"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.trap("R11", "R12")
@pytest.mark.slow
async def test_sigterm_closes_every_connection_and_ends_the_service(tmp_path: Path) -> None:
    async with ServiceProcess(tmp_path) as process, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(converse(process, "news")) for _ in range(20 * SOAK)
        ]
        process.terminate()
        for client in clients:
            assert (await client.next())["type"] == "reconnect"
            assert await client.closed() == 1012

        assert await process.exit_code() == 0
    log = [line for line in process.log if "/topics/news/ws" in line]
    assert len(log) == 20 * SOAK
    assert all('"method":"WEBSOCKET"' in line for line in log)
    assert not [line for line in process.log if '"level":"error"' in line]


PUBLISH = frame(TEXT, b'{"type":"publish","topic":"news","data":1}')


async def test_a_peer_that_closes_before_its_answers_come_is_no_error(service: Service) -> None:
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        await peer.send(PUBLISH * 20 + frame(CLOSE, (1001).to_bytes(2, "big")))
        await peer.read_to_end()

        assert await service.outcome_of(ROUTE) == "complete"
    assert service.app.state.hub.counters.published == 20


async def test_an_event_behind_a_bad_frame_is_no_error(service: Service) -> None:
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        connection, topics = connection_of(service), service.app.state.hub

        async def fail_between_events() -> None:
            await topics.publish("news", Message("1"))
            connection.data_received(b"\xff\xff")
            await topics.publish("news", Message("2"))

        await service.in_server(fail_between_events())

        assert await service.outcome_of(ROUTE) == "rejected"


async def test_a_command_behind_the_end_is_not_obeyed(service: Service) -> None:
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        await peer.send(frame(BINARY, b"x") + PUBLISH)
        await peer.read_until(b"only")
        peer.reset()

        assert await service.outcome_of(ROUTE) == "rejected"
    assert service.app.state.hub.counters.published == 0


async def test_a_burst_of_commands_leaves_turns_to_others(service: Service) -> None:
    counters, steps = service.app.state.hub.counters, [0]

    async def watch() -> None:
        steps[0] = counters.published  # It may have been published.
        while sum(steps) < 500:
            await asyncio.sleep(0)
            steps.append(counters.published - sum(steps))

    async with service.raw_connection() as peer:
        await shake_hands(peer, "x")
        watching = asyncio.create_task(service.in_server(watch()))
        await peer.send(PUBLISH * 500)
        await watching

    assert max(steps[1:]) <= 2
