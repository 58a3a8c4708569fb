"""Real-time: every subscriber gets every event in order, or is told that it missed some."""

import asyncio
import gc
import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from .service import Peer, Service, ServiceProcess

JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}


class Subscriber:
    """A bare client of an event stream: it sees every byte."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def open(self, topic: str, *headers: str, query: str = "") -> bytes:
        """Subscribe, and return the head; the subscription is in force when this returns."""
        await self._peer.get(f"/topics/{topic}/events{query}", *headers)
        head = await self._peer.read_head()
        self.greeting = await self.block()
        return head

    async def block(self) -> dict[str, str]:
        """Return the fields of the next event; chunked framing and comments are skipped."""
        text = ""
        while not text.endswith("\n\n"):
            line = (await self._peer.read_until(b"\n")).decode()
            if not line.endswith("\r\n") and not line.startswith(":"):
                text += line
        fields: dict[str, str] = {}
        for line in text.splitlines():
            name, _, value = line.partition(": ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        return fields


async def publish(service: Service, topic: str, *texts: str) -> list[str]:
    """Publish texts one after the other and return their ids."""
    ids = []
    async with service.client() as client:
        for text in texts:
            response = await client.post(f"/topics/{topic}/events", content=text, headers=TEXT)
            assert response.status_code == 202
            ids.append(response.json()["id"])
    return ids


async def test_every_subscriber_of_a_topic_gets_every_event_in_order(service: Service) -> None:
    async with service.raw_connection() as one, service.raw_connection() as two:
        first, second = Subscriber(one), Subscriber(two)
        await first.open("news")
        await second.open("news")
        await publish(service, "other", "not for them")
        ids = await publish(service, "news", "a", "b", "c")

        for subscriber in (first, second):
            blocks = [await subscriber.block() for _ in range(3)]
            assert [block["data"] for block in blocks] == ["a", "b", "c"]
            assert [block["id"] for block in blocks] == ids


@pytest.mark.trap("R10")
async def test_a_stream_begins_at_once_and_is_not_buffered(service: Service) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        head = (await subscriber.open("news")).decode().lower()

    assert "content-type: text/event-stream" in head
    assert "cache-control: no-cache, no-transform" in head
    assert "x-accel-buffering: no" in head
    assert subscriber.greeting["retry"].isdigit()
    assert re.fullmatch(r"[0-9a-f]+-0", subscriber.greeting["id"])


async def test_json_is_checked_and_sent_compact(service: Service) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        url = "/topics/news/events?event=price"
        response = await client.post(url, content=b'{ "a" : [1, "\xc3\xa4"] }', headers=JSON)

        block = await subscriber.block()
        assert block["data"] == '{"a":[1,"ä"]}'
        assert (block["event"], block["id"]) == ("price", response.json()["id"])


@pytest.mark.parametrize(
    ("body", "headers", "query", "status"),
    [
        (b'{"a": }', JSON, "", 422),
        (b"NaN", JSON, "", 422),
        (b'{"a": -Infinity}', JSON, "", 422),
        (b"[" * 10_000, JSON, "", 422),
        (b"", JSON, "", 422),
        (b"\xff", TEXT, "", 422),
        (b"x", {"Content-Type": "image/png"}, "", 415),
        (b"x", {}, "", 415),
        (b"x", TEXT, "?event=reset", 422),
        (b"x", TEXT, "?event=a%0Adata", 422),
        (b"x" * 70_000, TEXT, "", 413),
    ],
)
async def test_what_is_no_event_is_refused(
    service: Service, body: bytes, headers: dict[str, str], query: str, status: int
) -> None:
    async with service.client() as client:
        response = await client.post(f"/topics/news/events{query}", content=body, headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize("topic", ["a b", "a,b", "a*", "x" * 129])
async def test_a_malformed_topic_is_refused(service: Service, topic: str) -> None:
    async with service.client() as client:
        assert (await client.get(f"/topics/{topic}/events")).status_code == 422
        url = f"/topics/{topic}/events"
        assert (await client.post(url, content=b"1", headers=JSON)).status_code == 422


@pytest.mark.trap("R1")
@pytest.mark.parametrize(
    "text", ["hi\n\nevent: admin\ndata: x", "hi\r\revent: admin", "a\r\n\r\nid: 9"]
)
async def test_no_text_forges_an_event(service: Service, text: str) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        [event_id] = await publish(service, "news", text)
        block = await subscriber.block()

    assert block.keys() == {"id", "data"}
    assert block["id"] == event_id
    assert block["data"].split("\n") == re.split(r"\r\n|\r|\n", text)


@pytest.mark.trap("R3")
@pytest.mark.parametrize("by_query", [False, True])
async def test_a_client_that_comes_back_gets_what_it_missed(
    service: Service, by_query: bool
) -> None:
    ids = await publish(service, "news", "a", "b", "c")
    header = [] if by_query else [f"Last-Event-ID: {ids[0]}"]
    query = f"?last_event_id={ids[0]}" if by_query else ""
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", *header, query=query)
        await publish(service, "news", "d")
        blocks = [await subscriber.block() for _ in range(3)]

    assert subscriber.greeting["id"] == ids[0]
    assert [block["data"] for block in blocks] == ["b", "c", "d"]


@pytest.mark.trap("R3")
@pytest.mark.parametrize("last_event_id", ["ffffffff-1", "nonsense", "{epoch}-999", "1"])
async def test_a_position_that_is_not_ours_is_told(service: Service, last_event_id: str) -> None:
    [event_id] = await publish(service, "news", "a")
    position = last_event_id.replace("{epoch}", event_id.partition("-")[0])
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", f"Last-Event-ID: {position}")
        block = await subscriber.block()
        await publish(service, "news", "b")
        after = await subscriber.block()

    assert (block["event"], block["id"]) == ("reset", event_id)
    assert json.loads(block["data"]) == {"topic": "news", "reason": "epoch", "top": event_id}
    assert after["data"] == "b"


@pytest.mark.trap("R3")
async def test_events_that_are_gone_are_told(serve: Any) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    ids = await publish(service, "news", "a", "b", "c", "d")
    async with service.raw_connection() as peer, service.raw_connection() as lucky:
        subscriber, other = Subscriber(peer), Subscriber(lucky)
        await subscriber.open("news", f"Last-Event-ID: {ids[0]}")
        block = await subscriber.block()
        await other.open("news", f"Last-Event-ID: {ids[1]}")
        replayed = [(await other.block())["data"] for _ in range(2)]

    assert (block["event"], block["id"]) == ("reset", ids[3])
    assert json.loads(block["data"])["reason"] == "evicted"
    assert replayed == ["c", "d"]


async def test_events_of_a_forgotten_topic_are_told(serve: Any) -> None:
    service: Service = await serve(realtime={"max_topics": 2})
    [position] = await publish(service, "before", "x")
    await publish(service, "one", "a")
    await publish(service, "two", "b")
    await publish(service, "three", "c")

    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("one", f"Last-Event-ID: {position}")
        assert (await subscriber.block())["event"] == "reset"


@pytest.mark.trap("R5")
async def test_a_silent_stream_shows_that_it_is_alive(serve: Any) -> None:
    service: Service = await serve(realtime={"heartbeat": 0.1})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        comment = await peer.read_until(b":\n")
        await publish(service, "news", "a")

        assert comment.endswith(b"\r\n:\n")  # A lone line, no block, which some take for an event.
        assert (await subscriber.block())["data"] == "a"


@pytest.mark.trap("R4", "R8")
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
    assert service.app.state.hub._topics["news"].channels == set()


@pytest.mark.trap("R13")
async def test_a_failure_mid_stream_is_told_and_then_aborts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from {{cookiecutter.package_name}}.realtime import hub

    def broken(_: object) -> None:
        raise RuntimeError("secret")

    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        monkeypatch.setattr(hub.Subscription, "take", broken)
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
        refused = await client.get("/topics/news/events")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
    assert await service.outcome_of("GET /topics/{topics}/events") == "drained"


async def test_publishing_from_many_clients_at_once_keeps_one_order(service: Service) -> None:
    async with service.raw_connection() as one, service.raw_connection() as two:
        first, second = Subscriber(one), Subscriber(two)
        await first.open("news")
        await second.open("news")
        await asyncio.gather(*(publish(service, "news", str(n), str(n)) for n in range(20)))
        seen = [[(await s.block())["id"] for _ in range(40)] for s in (first, second)]

    assert seen[0] == seen[1]
    numbers = [int(event_id.partition("-")[2]) for event_id in seen[0]]
    assert numbers == list(range(1, 41))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.trap("R11", "R12")
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
