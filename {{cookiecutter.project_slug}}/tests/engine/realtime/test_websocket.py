"""WebSockets: subscribe and publish on one connection, with the guarantees of streams."""

from typing import Any

import pytest

from ..service import Service
from .conversation import ROUTE, converse
from .subscriber import Subscriber, publish


async def test_events_of_all_topics_come_in_order(service: Service) -> None:
    async with converse(service, "news,prices.*") as client:
        ids = await publish(service, "news", "a")
        ids += await publish(service, "prices.usd", "b")
        await publish(service, "other", "not for them")
        ids += await publish(service, "news", "c")
        events = [await client.next() for _ in range(3)]

    assert client.greeting["type"] == "subscribed"
    assert client.greeting["topics"] == ["news", "prices.*"]
    assert events[0] == {
        "type": "event", "id": ids[0], "topic": "news", "event": None, "data": "a"
    }  # fmt: skip
    assert [event["id"] for event in events] == ids
    assert [event["topic"] for event in events] == ["news", "prices.usd", "news"]


async def test_an_event_is_acknowledged_before_it_comes(service: Service) -> None:
    async with converse(service, "news") as client, converse(service, "news") as other:
        for number in range(20):
            message = {"topic": "news", "data": {"n": number}, "event": "tick"}
            ack = await client.ask("publish", **message, ref=number)
            event = await client.next()
            assert ack == {"type": "ack", "id": event["id"], "ref": number}
            assert event == await other.next()
            assert (event["event"], event["data"]) == ("tick", {"n": number})


async def test_what_is_published_reaches_every_other_stream(service: Service) -> None:
    async with converse(service, "x") as client, service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        ack = await client.ask("publish", topic="news", data=[1, "x"])
        block = await subscriber.block()

    assert (block["id"], block["data"]) == (ack["id"], '[1,"x"]')


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("1.000000000000000000001", "1.000000000000000000001"),
        ('{ "data" : 1e400, "a" : "x, \\" y" }', '{"data":1e400,"a":"x, \\" y"}'),
        ("9" * 4000, "9" * 4000),
        ('"\\u00e4 : ,"', '"\\u00e4 : ,"'),
        ("null", "null"),
    ],
)
async def test_data_is_passed_on_as_it_was_written(
    service: Service, written: str, sent: str
) -> None:
    async with converse(service, "news") as client:
        await client.socket.send('{ "type" : "publish", "data" : ' + written + ' , "topic":"news"}')
        ack = await client.next()
        text = await client.next_text()

    event = f'"id":"{ack["id"]}","topic":"news","event":null,"data":{sent}'
    assert text == '{"type":"event",' + event + "}"


@pytest.mark.trap("R3")
@pytest.mark.parametrize("by_query", [False, True])
async def test_a_client_that_comes_back_gets_what_it_missed(
    service: Service, by_query: bool
) -> None:
    ids = await publish(service, "news", "a", "b", "c")
    async with converse(
        service, "news" if by_query else "x", f"?last_event_id={ids[0]}" if by_query else ""
    ) as client:
        greeting = client.greeting
        if not by_query:
            greeting = await client.ask("subscribe", topics=["news"], last_event_id=ids[0], ref="r")
            assert greeting["ref"] == "r"
        await publish(service, "news", "d")

        assert greeting["last_event_id"] == ids[0]
        assert await client.data(3) == ["b", "c", "d"]


@pytest.mark.trap("R3")
async def test_missed_events_of_several_topics_come_in_one_order(service: Service) -> None:
    [first] = await publish(service, "a", "0")
    for number in range(1, 9):
        await publish(service, "ab"[number % 2], str(number))
    async with converse(service, "a,b", f"?last_event_id={first}") as client:
        assert await client.data(8) == [str(number) for number in range(1, 9)]


@pytest.mark.trap("R3")
async def test_a_position_that_is_not_ours_is_told(service: Service) -> None:
    [event_id] = await publish(service, "news", "a")
    async with converse(service, "news", "?last_event_id=ffffffff-1") as client:
        told = await client.next()
        await publish(service, "news", "b")

        assert client.greeting["last_event_id"] == event_id
        assert told == {"type": "reset", "topic": "news", "reason": "epoch", "top": event_id}
        assert await client.data(1) == ["b"]


@pytest.mark.trap("R3")
async def test_events_that_are_gone_are_told(serve: Any) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    ids = await publish(service, "news", *"abcd")
    async with converse(service, "news", f"?last_event_id={ids[0]}") as client:
        told = await client.next()

    assert told == {"type": "reset", "topic": "news", "reason": "evicted", "top": ids[-1]}


async def test_topics_come_and_go_while_the_connection_stays(service: Service) -> None:
    async with converse(service, "a") as client:
        await client.ask("subscribe", topics=["b"])
        await publish(service, "b", "1")
        assert await client.data(1) == ["1"]

        left = await client.ask("unsubscribe", topics=["a", "b"], ref=7)
        assert left == {"type": "unsubscribed", "topics": ["a", "b"], "ref": 7}
        await publish(service, "a", "2")
        await publish(service, "b", "3")
        await client.ask("subscribe", topics=["b"])
        await publish(service, "b", "4")
        assert await client.data(1) == ["4"]


async def test_overlapping_topics_bring_no_event_twice(service: Service) -> None:
    [first] = await publish(service, "a.b", "1")
    await publish(service, "a.b", "2")
    async with converse(service, "a.b,a.*", f"?last_event_id={first}") as client:
        await client.send("subscribe", topics=["a.b", "a.*", "a.b.*"])
        await publish(service, "a.b", "3")
        await publish(service, "a.b.c", "4")
        await client.send("subscribe", topics=["a.b.c"], last_event_id=first)
        await client.send("publish", topic="a.c", data="end")
        data: list[Any] = []
        while "end" not in data:
            told = await client.next()
            data += [told["data"]] if told["type"] == "event" else []

    assert data == ["2", "3", "4", "end"]


async def test_a_topic_that_is_followed_already_begins_nowhere(service: Service) -> None:
    async with converse(service, "news") as client:
        answer = await client.ask("subscribe", topics=["news"], last_event_id="0-0")

    assert answer == {"type": "subscribed", "topics": ["news"], "last_event_id": None}


async def test_nothing_is_compressed(service: Service) -> None:
    async with converse(service, "news") as client:
        assert client.socket.response is not None
        assert "sec-websocket-extensions" not in client.socket.response.headers


async def test_a_client_that_closes_has_ended_well_and_gives_its_place_back(
    serve: Any,
) -> None:
    service: Service = await serve(streaming={"max_streams": 1})
    for _ in range(3):
        async with converse(service, "news"):
            pass
        exchange = await service.ended(ROUTE)
        assert (exchange.status, exchange.outcome) == (101, "complete")
        assert exchange.bytes_out > 0
