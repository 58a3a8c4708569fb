"""The history of topics for clients that reconnect, and repeated publications."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from ..service import Service, identify
from .poller import position_of, replay
from .subscriber import TEXT, Subscriber, publish

JSON = {"Content-Type": "application/json"}


async def test_the_latest_events_are_kept(serve: Any) -> None:
    service: Service = await serve(realtime={"history_size": 3})
    ids = await publish(service, "news", *"abcdef")
    told = [await replay(service, "news", position) for position in ids]
    assert told == [["evicted"], ["evicted"], [*"def"], [*"ef"], ["f"], []]


@pytest.mark.bound("H21")
async def test_a_topic_keeps_only_so_many_bytes(serve: Any) -> None:
    service: Service = await serve(realtime={"history_bytes": 50_000})
    ids = await publish(service, "news", *["x" * 5000] * 20)
    told = [await replay(service, "news", position) for position in ids]

    kept = [len(events) for events in told if events != ["evicted"]]
    assert kept == list(reversed(range(len(kept))))
    assert 2 <= len(kept) <= 11


async def test_the_newest_event_is_kept_however_large(serve: Any) -> None:
    service: Service = await serve(realtime={"history_bytes": 1000})
    start = await position_of(service, "other")
    first, _ = await publish(service, "news", "a", "x" * 50_000)
    assert await replay(service, "news", first) == ["x" * 50_000]
    assert await replay(service, "news", start) == ["evicted"]


@pytest.mark.parametrize("is_followed", [False, True])
@pytest.mark.bound("H21")
async def test_an_event_is_kept_only_for_so_long(serve: Any, is_followed: bool) -> None:
    service: Service = await serve(realtime={"history_age": 1e-6})
    async with service.raw_connection() as peer:
        if is_followed:
            await Subscriber(peer).open("news,new.*")
        start = await position_of(service, "other")
        [top] = await publish(service, "news", "a")
        await service.in_server(service.app.state.hub.tidy())

        assert await replay(service, "news,new.*", start) == ["evicted"]
        assert await replay(service, "news,new.*", top) == []


@pytest.mark.parametrize("topics", [None, "t.*", "t.0,t.1"])
async def test_all_topics_together_keep_only_so_many_bytes(serve: Any, topics: str | None) -> None:
    """Even if they are followed, because one client may follow all of them."""
    service: Service = await serve(
        realtime={"history_total": 100_000, "history_bytes": 50_000, "history_size": 5}
    )
    async with service.raw_connection() as peer:
        if topics:
            await Subscriber(peer).open(topics)
        start = await position_of(service, "other")
        for number in range(40):
            [top] = await publish(service, f"t.{number}", "x" * 5000)

        rings = service.app.state.hub._store.all_rings()
        kept = {event for ring in rings for event in ring.after(ring.floor)}
        assert sum(event.cost for event in kept) <= 150_000
        assert await replay(service, "t.0", start) == ["evicted"]
        assert await replay(service, "t.0", top) == []


async def test_topics_that_are_gone_leave_nothing_with_who_follows_their_prefix(
    serve: Any,
) -> None:
    service: Service = await serve(realtime={"history_age": 1e-6})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("run.*")
        start = subscriber.greeting["id"]
        for number in range(20):
            await publish(service, f"run.{number}", "done")
            await subscriber.block()
        hub = service.app.state.hub
        for _ in range(3):
            await service.in_server(hub.tidy())

        assert await service.call(lambda: set(hub.followed())) == {"run.*"}
        assert await replay(service, "run.*", start) == ["evicted"]
        await publish(service, "run.0", "again")
        assert json.loads((await subscriber.block())["data"])["data"] == "again"


async def test_topics_that_nobody_follows_and_nobody_keeps_are_forgotten(serve: Any) -> None:
    service: Service = await serve(realtime={"history_age": 1e-6})
    async with service.raw_connection() as peer:
        await Subscriber(peer).open("news,a.*")
        await publish(service, "news", "a")
        peer.reset()
        await service.ended("GET /topics/{topics}/events")
    hub = service.app.state.hub
    for _ in range(3):
        await service.in_server(hub.tidy())

    assert (hub.followed(), hub._store.merged) == ({}, {})


@pytest.mark.bound("H22")
async def test_only_so_many_topics_are_kept_the_latest_ones(serve: Any) -> None:
    service: Service = await serve(realtime={"max_topics": 2})
    [start] = await publish(service, "other", "x")
    for topic in ("a", "b", "a", "c"):
        await publish(service, topic, topic)

    told = {topic: await replay(service, topic, start) for topic in "abc"}
    assert told == {"a": ["a", "a"], "b": ["evicted"], "c": ["c"]}


async def test_a_subscriber_of_a_forgotten_topic_still_gets_what_comes(serve: Any) -> None:
    service: Service = await serve(realtime={"max_topics": 1})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a")
        for topic in ("a", "b", "c", "a", "b", "a"):
            await publish(service, topic, topic)
        assert [(await subscriber.block())["data"] for _ in range(3)] == ["a", "a", "a"]


class Publisher:
    """Publishes with an idempotency key, optionally through a proxy."""

    def __init__(self, service: Service, key: str, address: str = "10.0.0.1") -> None:
        self._service = service
        self._headers = {"Idempotency-Key": key, "X-Forwarded-For": address}

    async def post(
        self, text: str, topic: str = "a", query: str = "", headers: dict[str, str] = TEXT
    ) -> httpx.Response:
        async with self._service.client() as client:
            url = f"/topics/{topic}/events{query}"
            return await client.post(url, content=text, headers=self._headers | headers)


async def test_a_repeated_publication_has_the_same_id_and_is_delivered_once(
    service: Service,
) -> None:
    publisher = Publisher(service, "key")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a")
        answers = await asyncio.gather(*(publisher.post("1") for _ in range(5)))
        [after] = await publish(service, "a", "2")
        blocks = [await subscriber.block(), await subscriber.block()]

    assert [answer.status_code for answer in answers] == [202] * 5
    assert len({answer.text for answer in answers}) == 1
    assert [block["id"] for block in blocks] == [answers[0].json()["id"], after]


@pytest.mark.parametrize(
    ("text", "query", "headers"),
    [
        ("2", "?event=x&key=k", JSON),
        ("1", "?event=y&key=k", JSON),
        ("1", "?event=x&key=l", JSON),
        ("1", "?event=x", JSON),
        ("1", "?event=x&key=k", TEXT),
    ],
)
async def test_a_key_is_not_used_for_another_event(
    service: Service, text: str, query: str, headers: dict[str, str]
) -> None:
    publisher = Publisher(service, "key")
    first = await publisher.post("1", query="?event=x&key=k", headers=JSON)
    refused = await publisher.post(text, query=query, headers=headers)

    assert (first.status_code, refused.status_code) == (202, 422)
    assert await replay(service, "a", first.json()["id"]) == []


@pytest.mark.parametrize(
    "headers",
    [pytest.param(TEXT, marks=pytest.mark.fault("G29")), TEXT | {"X-User": "a"}],
    ids=["address", "user"],
)
async def test_a_repetition_from_another_network_is_not_published_again(
    service: Service, headers: dict[str, str]
) -> None:
    service.app.state.kernel.on_open.append(identify)
    at_home, elsewhere = (Publisher(service, "key", address) for address in ("10.0.0.1", "fd00::1"))
    first = await at_home.post("1", headers=headers)
    again = await elsewhere.post("1", headers=headers)
    other = await elsewhere.post("2", headers=headers)
    [after] = await publish(service, "a", "3")

    assert (first.status_code, again.json(), other.status_code) == (202, first.json(), 422)
    assert await replay(service, "a", first.json()["id"]) == ["3"]
    assert first.json()["id"] < after


@pytest.mark.parametrize(
    ("key", "user", "topic"), [("key", "b", "a"), ("key", "a", "b"), ("other", "a", "a")]
)
async def test_keys_of_other_users_and_topics_are_others(
    service: Service, key: str, user: str, topic: str
) -> None:
    service.app.state.kernel.on_open.append(identify)
    first = await Publisher(service, "key").post("1", "a", headers=TEXT | {"X-User": "a"})
    second = await Publisher(service, key).post("2", topic, headers=TEXT | {"X-User": user})

    assert second.status_code == 202
    assert second.json() == {"id": second.json()["id"], "topic": topic}
    assert await replay(service, "a,b", first.json()["id"]) == ["2"]


async def test_a_refused_publication_may_be_repeated(service: Service) -> None:
    publisher = Publisher(service, "key")
    assert (await publisher.post("{", headers=JSON)).status_code == 422
    assert (await publisher.post("{}", headers=JSON)).status_code == 202


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_a_malformed_key_is_refused(service: Service, key: str) -> None:
    assert (await Publisher(service, key).post("1")).status_code == 422
