"""Real-time: every subscriber receives every event in order, or a reset."""

import asyncio
import json
import re
from typing import Any

import pytest

from ..service import Service
from .subscriber import TEXT, Subscriber, publish

JSON = {"Content-Type": "application/json"}


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


@pytest.mark.parametrize("topic", ["a b", "a,b*", "a*", "x" * 129])
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
        event_id, _ = await publish(service, "news", text, "next")
        block, after = await subscriber.block(), await subscriber.block()

    assert "event" not in block
    assert after["data"] == "next"
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
@pytest.mark.slow
async def test_a_silent_stream_shows_that_it_is_alive(serve: Any) -> None:
    service: Service = await serve(realtime={"heartbeat": 0.1})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        comment = await peer.read_until(b":\n")
        await publish(service, "news", "a")

        assert comment.endswith(b"\r\n:\n")  # Some clients report a block as an event.
        assert (await subscriber.block())["data"] == "a"


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


@pytest.mark.parametrize(
    "number", ["1e999", "123456789.123456789123", "0.1000", "100000000000000000000000001"]
)
async def test_a_number_goes_out_with_the_digits_it_came_with(
    service: Service, number: str
) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        body = '{ "a\\" b": [ NUMBER ] }'.replace("NUMBER", number)
        await client.post("/topics/news/events", content=body, headers=JSON)

        assert (await subscriber.block())["data"] == '{"a\\" b":[NUMBER]}'.replace("NUMBER", number)
