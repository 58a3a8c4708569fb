"""Several topics and prefixes on one connection, under one position."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import streams

from ..service import Service
from .poller import position_of, replay
from .subscriber import TEXT, Subscriber, publish

JSON = {"Content-Type": "application/json"}


async def contents(subscriber: Subscriber, count: int) -> list[tuple[str, str]]:
    """Return the topics and data of the next events of several topics."""
    events = [json.loads((await subscriber.block())["data"]) for _ in range(count)]
    return [(event["topic"], event["data"]) for event in events]


@pytest.mark.trap("R14")
async def test_several_topics_come_in_one_order_on_one_connection(service: Service) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a,b,c")
        for topic, text in [("a", "1"), ("b", "2"), ("other", "x"), ("a", "3"), ("c", "4")]:
            await publish(service, topic, text)

        assert await contents(subscriber, 4) == [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]


async def test_an_event_of_several_topics_says_of_which_it_is(service: Service) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("a,b.*")
        body = b'{ "price": 1.50 }'
        sent = await client.post("/topics/a/events?event=price", content=body, headers=JSON)
        await client.post("/topics/b.c/events", content='say "hi"\nä', headers=TEXT)
        first, second = await subscriber.block(), await subscriber.block()

    assert first["data"] == '{"topic":"a","event":"price","data":{"price":1.50}}'
    assert (first["event"], first["id"]) == ("price", sent.json()["id"])
    assert json.loads(second["data"]) == {"topic": "b.c", "event": None, "data": 'say "hi"\nä'}
    assert "event" not in second


@pytest.mark.parametrize("topics", ["a,b,c", "c,a,b", "*"])
@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_replay_merges_topics_in_the_order_of_publication(
    service: Service, topics: str, is_followed: bool
) -> None:
    names = [f"x.{name}" for name in "abc"]
    selection = "x.*" if topics == "*" else ",".join(f"x.{name}" for name in topics.split(","))
    async with service.raw_connection() as one, service.raw_connection() as two:
        if is_followed:
            await Subscriber(one).open(selection)
        [start] = await publish(service, names[0], "0")
        order = [names[index] for index in (1, 0, 2, 1, 1, 2, 0)]
        ids = [(await publish(service, name, str(n)))[0] for n, name in enumerate(order)]
        subscriber = Subscriber(two)
        await subscriber.open(selection, f"Last-Event-ID: {start}")
        blocks = [await subscriber.block() for _ in order]

    assert [block["id"] for block in blocks] == ids
    assert [json.loads(block["data"])["topic"] for block in blocks] == order


async def test_a_position_of_one_topic_serves_any_subscription(service: Service) -> None:
    [_, position] = await publish(service, "a", "1", "2")
    await publish(service, "b", "3")
    await publish(service, "a", "4")

    assert await replay(service, "b", position) == ["3"]
    assert await replay(service, "a,b", position) == ["3", "4"]
    assert await replay(service, "c,b", position) == ["3"]


async def test_a_topic_that_is_new_to_a_prefix_appears(service: Service) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("run.*")
        start = subscriber.greeting["id"]
        for topic in ["run", "runs", "run.1", "prerun.1", "run.2", "run.1.log"]:
            await publish(service, topic, topic)

        expected = [(topic, topic) for topic in ("run.1", "run.2", "run.1.log")]
        assert await contents(subscriber, 3) == expected
    assert await replay(service, "run.*", start) == ["run.1", "run.2", "run.1.log"]


@pytest.mark.parametrize("topics", ["a,b", "b,c", "b.*,b", "x.*,b"])
async def test_a_gap_in_any_of_the_topics_is_told(serve: Any, topics: str) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    start, *_ = await publish(service, "b", "0", "1", "2", "3")
    [top] = await publish(service, "a", "4")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open(topics, f"Last-Event-ID: {start}")
        block = await subscriber.block()
        await publish(service, "b", "5")

        told = json.loads(block["data"])
        assert (block["event"], block["id"]) == ("reset", top)
        assert (told["reason"], told["top"]) == ("evicted", top)
        assert set(told["topic"].split(",")) == set(topics.split(","))
        assert await contents(subscriber, 1) == [("b", "5")]


async def test_what_another_topic_lost_is_no_gap(serve: Any) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    start, *_ = await publish(service, "b", "0", "1", "2", "3")
    await publish(service, "a", "4")
    assert await replay(service, "a,c", start) == ["4"]


async def test_a_gap_is_told_while_others_follow_the_same_topics(serve: Any) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a,b.*")
        start = subscriber.greeting["id"]
        first, *_ = await publish(service, "b.c", "0", "1", "2")
        assert len(await contents(subscriber, 3)) == 3
        assert await replay(service, "a,b.*", start) == ["evicted"]
        assert await replay(service, "a,b.*", first) == ["1", "2"]


@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_topic_of_a_prefix_that_was_forgotten_is_a_gap(
    serve: Any, is_followed: bool
) -> None:
    service: Service = await serve(realtime={"max_topics": 2})
    [start] = await publish(service, "other", "0")
    async with service.raw_connection() as peer:
        if is_followed:
            await Subscriber(peer).open("run.*")
        for number in range(4):
            await publish(service, f"run.{number}", str(number))
        [position] = await publish(service, "run.4", "4")
        await publish(service, "run.3", "5")

        # With a subscriber more events may be kept; every gap is reported.
        told = await replay(service, "run.*", start)
        assert told == (["0", "1", "2", "3", "4", "5"] if told[0] == "0" else ["evicted"])
        assert await replay(service, "run.*", position) == ["5"]


@pytest.mark.parametrize("topics", ["a.b,a.b", "a.*,a.b", "a.b,a.*,a.*"])
async def test_a_topic_that_is_named_twice_comes_once(service: Service, topics: str) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open(topics)
        start = subscriber.greeting["id"]
        ids = await publish(service, "a.b", "1", "2", "3")
        assert [(await subscriber.block())["id"] for _ in range(3)] == ids
    assert await replay(service, topics, start) == ["1", "2", "3"]


async def test_a_subscription_has_up_to_32_topics(service: Service) -> None:
    names = [f"t{number}" for number in range(33)]
    async with service.client() as client:
        most = await client.get(f"/topics/{','.join(names[:32])}/events?poll=0")
        more = await client.get(f"/topics/{','.join(names)}/events?poll=0")
    assert (most.status_code, more.status_code) == (200, 422)


@pytest.mark.parametrize("topics", ["a,", ",", "a,,b", "*", "a.*.b", "a.*x", "a,b c", "ä", "a,*"])
@pytest.mark.bound("H23")
async def test_a_malformed_selection_is_refused(service: Service, topics: str) -> None:
    async with service.client() as client:
        assert (await client.get(f"/topics/{topics}/events?poll=0")).status_code == 422


@pytest.mark.parametrize("topics", ["a,b", "a.*", "a,a"])
async def test_nobody_publishes_to_a_list_or_a_prefix(service: Service, topics: str) -> None:
    start = await position_of(service, "a")
    async with service.client() as client:
        refused = await client.post(f"/topics/{topics}/events", content=b"1", headers=JSON)
    assert refused.status_code == 422
    assert await replay(service, "a,b,a.*", start) == []


@pytest.mark.parametrize(
    ("topics", "name"), [("a", "sse_event"), ("a,b", "sse_event_with_topic"), ("a.*,a", "both")]
)
async def test_an_event_is_encoded_once_and_only_when_needed(
    service: Service, monkeypatch: pytest.MonkeyPatch, topics: str, name: str
) -> None:
    name = "sse_event_with_topic" if name == "both" else name
    encoded = []
    encode: Callable[..., bytes] = getattr(streams, name)

    def count(event: Any) -> bytes:
        encoded.append(event.message.data)
        return encode(event)

    monkeypatch.setattr(streams, name, count)
    await publish(service, "a", "for nobody")
    async with (
        service.raw_connection() as one,
        service.raw_connection() as two,
        service.raw_connection() as three,
    ):
        subscribers = [Subscriber(peer) for peer in (one, two, three)]
        for subscriber in subscribers:
            await subscriber.open(topics)
        await publish(service, "a", "for all")
        blocks = [await subscriber.block() for subscriber in subscribers]

    assert blocks[0] == blocks[1] == blocks[2]
    assert encoded == ["for all"]


async def test_a_list_costs_the_same_however_many_others_there_are(service: Service) -> None:
    """When thousands reconnect at once, each with its own topic and a common one."""
    hub = service.app.state.hub

    async def calls_for(*names: str) -> int:
        calls = []
        sys.setprofile(lambda frame, event, _: calls.append(frame) if event == "call" else None)
        try:
            await hub.subscribe(names)
        finally:
            sys.setprofile(None)
        return len(calls)

    async def subscribe() -> tuple[int, int]:
        await hub.subscribe(("all",))
        alone = await calls_for("all", "me")
        for number in range(300):
            await hub.subscribe(("all", f"user{number}"))
        return alone, await calls_for("all", "one")

    alone, among_many = await service.in_server(subscribe())
    assert among_many < 2 * alone
