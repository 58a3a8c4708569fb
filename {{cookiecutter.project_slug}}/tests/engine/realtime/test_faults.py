"""Real-time under faults: clients that stop reading or vanish, failures, drains."""

import asyncio
import gc
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Request

from {{cookiecutter.package_name}}.engine.realtime.messages import Message
from {{cookiecutter.package_name}}.engine.realtime.streams import EventStream

from ..service import Service, ServiceProcess
from .subscriber import Subscriber, publish


@pytest.mark.trap("R4", "R8")
@pytest.mark.slow
async def test_a_subscriber_that_stops_reading_is_cut_and_holds_nobody_up(service: Service) -> None:
    text = "x" * 60_000
    async with (
        service.raw_connection(receive_buffer=4096) as stalled,
        service.raw_connection() as peer,
    ):
        await stalled.get("/topics/news/events")
        await stalled.read_head()
        reader = Subscriber(peer)
        await reader.open("news")
        for _ in range(4):
            await publish(service, "news", *[text] * 20)
            for _ in range(20):
                assert (await reader.block())["data"] == text

        assert await service.outcome_of("GET /topics/{topics}/events") == "slow_client"
        with pytest.raises(ConnectionResetError):
            await stalled.read_to_end()


@pytest.mark.trap("R9")
async def test_nothing_is_left_of_subscribers_that_vanish(service: Service) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            async with service.raw_connection() as peer:
                await Subscriber(peer).open("news")
                peer.reset()
            exchange = await service.ended("GET /topics/{topics}/events")
    finally:
        gc.enable()

    kernel = service.app.state.kernel
    assert (len(kernel.channels), kernel.streams["realtime"]) == (0, 0)
    assert exchange.outcome == "client_abort"
    assert service.app.state.hub.subscriptions() == set()


@pytest.mark.trap("R13")
async def test_a_failure_mid_stream_is_told_and_then_aborts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from {{cookiecutter.package_name}}.engine.realtime import subscription

    def broken(_: object) -> None:
        raise RuntimeError("secret")

    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        monkeypatch.setattr(subscription.Subscription, "take", broken)
        await publish(service, "news", "a")
        block = await subscriber.block()
        rest = await peer.read_to_end()

    assert block["event"] == "error"
    assert json.loads(block["data"])["status"] == 500
    assert "secret" not in block["data"]
    assert not rest.endswith(b"0\r\n\r\n")
    assert await service.outcome_of("GET /topics/{topics}/events") == "server_error"


@pytest.mark.trap("R11")
async def test_a_drain_tells_subscribers_to_come_back_and_ends_cleanly(service: Service) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        await service.call(service.app.state.kernel.drain.begin)
        block = await subscriber.block()
        rest = await peer.read_until(b"0\r\n\r\n")

        assert block["event"] == "reconnect"
        assert 1000 <= int(block["retry"]) <= 5000
        assert rest.endswith(b"0\r\n\r\n")
        for accepted in ("*/*", "application/jsonl", "application/json, text/event-stream"):
            refused = await client.get("/topics/news/events", headers={"Accept": accepted})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
    assert await service.outcome_of("GET /topics/{topics}/events") == "drained"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.trap("R11", "R12")
@pytest.mark.slow
async def test_sigterm_ends_every_open_stream_cleanly(tmp_path: Path) -> None:
    async with ServiceProcess(tmp_path) as process, AsyncExitStack() as stack:
        subscribers = []
        for _ in range(100):
            peer = await stack.enter_async_context(process.raw_connection())
            subscribers.append((peer, Subscriber(peer)))
            await subscribers[-1][1].open("news")
        process.terminate()

        for peer, subscriber in subscribers:
            block = await subscriber.block()
            assert (block["event"], block["retry"].isdigit()) == ("reconnect", True)
            assert (await peer.read_to_end()).endswith(b"0\r\n\r\n")
        assert await process.exit_code() == 0


async def test_a_client_that_leaves_with_another_request_behind_is_noticed(
    service: Service,
) -> None:
    async with service.raw_connection() as peer:
        await Subscriber(peer).open("news")
        await peer.get("/health/live")
        peer.reset()

        assert await service.outcome_of("GET /topics/{topics}/events") == "client_abort"
    assert service.app.state.kernel.channels == set()


async def test_a_stream_that_opens_as_the_drain_begins_is_told_as_well(serve: Any) -> None:
    late = APIRouter()

    @late.get("/late")  # Without admission, as if the request had been admitted before the drain.
    async def open_late(request: Request) -> EventStream:
        return EventStream(request.app.state.hub, ("news",))

    service: Service = await serve(late)
    await service.call(service.app.state.kernel.drain.begin)
    async with service.client() as client:
        response = await client.get("/late")

    assert "event: reconnect" in response.text
    assert await service.outcome_of("GET /late") == "drained"


@pytest.mark.trap("R11")
async def test_an_event_source_that_comes_during_a_drain_gets_its_events_and_comes_back(
    service: Service,
) -> None:
    """It would never reconnect after a refusal."""
    first, second = await publish(service, "news", "a", "b")
    await service.call(service.app.state.kernel.drain.begin)
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        sent = ["Accept: text/event-stream", f"Last-Event-ID: {first}"]
        head = await subscriber.open("news", *sent)
        missed, farewell = await subscriber.block(), await subscriber.block()
        rest = await peer.read_until(b"0\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")
    assert (missed["id"], missed["data"]) == (second, "b")
    assert farewell["event"] == "reconnect"
    assert 1000 <= int(farewell["retry"]) <= 5000
    assert rest == b"\r\n0\r\n\r\n"
    assert await service.outcome_of("GET /topics/{topics}/events") == "drained"


async def test_a_backlog_is_sent_in_shares(service: Service) -> None:
    """A stalled client holds a copy of one message, which must not be all missed events."""
    first, *_ = await publish(service, "news", *["x" * 10_000] * 41)

    async def take_all() -> list[int]:
        subscription = await service.app.state.hub.subscribe(("news",), first)
        shares = iter(lambda: len(subscription.take()[1]), 0)
        return list(shares)

    shares = await service.in_server(take_all())
    assert sum(shares) == 40
    assert max(shares) == 7


async def test_work_for_afterwards_is_done_when_the_client_is_gone(serve: Any) -> None:
    done = asyncio.Event()
    router = APIRouter()

    @router.get("/followed")
    async def follow(request: Request, background: BackgroundTasks) -> EventStream:
        background.add_task(done.set)
        return EventStream(request.app.state.hub, ("news",))

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/followed")
        await peer.read_until(b"id: ")
        assert not done.is_set()
        peer.reset()
        assert await service.outcome_of("GET /followed") == "client_abort"

    assert done.is_set()


async def test_half_a_character_is_refused_before_anybody_is_sent_it() -> None:
    with pytest.raises(UnicodeEncodeError):
        Message("\ud800")


@pytest.mark.fault("F5")
async def test_white_space_behind_the_last_event_id_is_no_gap(service: Service) -> None:
    first, _ = await publish(service, "news", "first", "second")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", f"Last-Event-ID: {first} ")
        block = await subscriber.block()
    assert (block.get("event"), block["data"]) == (None, "second")
