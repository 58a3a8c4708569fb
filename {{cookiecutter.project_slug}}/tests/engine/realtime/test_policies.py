"""Subscribers that read more slowly than others publish, by the policy of the topic."""

from typing import Any

import pydantic
import pytest

from {{cookiecutter.package_name}}.engine.settings import explain

from ..peer import Peer
from ..service import Service, make_settings
from .poller import poll, position_of, replay
from .subscriber import TEXT, Subscriber, publish

#: More than the socket buffers of both ends hold.
FILL = ["x" * 60_000] * 80
ROUTE = "GET /topics/{topics}/events"


async def publish_keyed(service: Service, topic: str, *pairs: str) -> None:
    """Publish texts such as `a1` under the key `a`."""
    async with service.client() as client:
        for pair in pairs:
            url = f"/topics/{topic}/events?key={pair[0]}"
            assert (await client.post(url, content=pair, headers=TEXT)).status_code == 202


async def rest_of(peer: Peer) -> bytes:
    """Return all bytes until the connection ends or is reset."""
    try:
        return await peer.read_to_end()
    except ConnectionResetError:
        return b""


async def until(subscriber: Subscriber, last: str) -> list[dict[str, str]]:
    """Return the events up to the one with this data."""
    blocks = [await subscriber.block()]
    while not blocks[-1]["data"].endswith(last):
        blocks.append(await subscriber.block())
    return blocks


def patient(policies: str = "", **settings: Any) -> dict[str, Any]:
    """Return settings with a long send timeout, so that only the history limits a stall."""
    return {
        "streaming": {"send_timeout": 30.0},
        "realtime": {"policies": policies, **settings},
    }


@pytest.mark.parametrize("topics", ["news", "news,other", "new.*,news"])
async def test_a_client_that_fell_behind_the_history_is_cut_and_told_when_it_comes_back(
    serve: Any, topics: str
) -> None:
    service: Service = await serve(**patient(history_size=3))
    async with service.raw_connection(receive_buffer=4096) as peer:
        subscriber = Subscriber(peer)
        await subscriber.open(topics)
        first, *_, top = await publish(service, "news", *FILL)
        block = await subscriber.block()
        rest = await rest_of(peer)

    assert block["id"] == first
    assert not rest.endswith(b"0\r\n\r\n")
    assert await service.outcome_of(ROUTE) == "slow_client"
    assert (await poll(service, topics, first))["events"][0]["data"]["reason"] == "evicted"
    assert await replay(service, topics, top) == []


async def test_a_client_that_stalls_within_the_history_misses_nothing(serve: Any) -> None:
    service: Service = await serve(**patient(history_bytes="64 MiB"))
    async with service.raw_connection(receive_buffer=4096) as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        ids = await publish(service, "news", *FILL)
        assert [(await subscriber.block())["id"] for _ in ids] == ids


@pytest.mark.parametrize("topics", ["ticker", "ticker,other", "tick.*,ticker"])
async def test_a_slow_client_of_a_topic_gets_the_latest(serve: Any, topics: str) -> None:
    service: Service = await serve(**patient("ticker=latest", history_size=3))
    async with service.raw_connection(receive_buffer=4096) as peer:
        subscriber = Subscriber(peer)
        await subscriber.open(topics)
        ids = await publish(service, "ticker", *FILL, "the latest")
        blocks = await until(subscriber, 'the latest"}' if "," in topics else "the latest")

    seen = [ids.index(block["id"]) for block in blocks]
    assert seen == sorted(seen)
    assert len(seen) < len(ids)
    assert "reset" not in [block.get("event") for block in blocks]


async def test_a_client_that_keeps_up_gets_every_state(serve: Any) -> None:
    service: Service = await serve(realtime={"policies": "ticker=latest"})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("ticker")
        for number in range(10):
            [event_id] = await publish(service, "ticker", str(number))
            assert (await subscriber.block())["id"] == event_id


async def test_a_slow_client_gets_the_newest_of_each_key(serve: Any) -> None:
    service: Service = await serve(**patient("prices.*=coalesce", history_bytes="64 MiB"))
    async with service.raw_connection(receive_buffer=4096) as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("prices.eu")
        await publish(service, "prices.eu", *FILL)
        await publish_keyed(service, "prices.eu", "a1", "b1", "a2", "c1", "b2", "a3")
        blocks = await until(subscriber, "a3")

    filled = [block["data"] for block in blocks if len(block["data"]) > 2]
    assert len(filled) == len(FILL)  # Events without a key are not replaced.
    assert [block["data"] for block in blocks[len(FILL) :]] == ["c1", "b2", "a3"]


@pytest.mark.parametrize("is_followed", [False, True])
async def test_who_comes_back_gets_the_newest_of_each_key(serve: Any, is_followed: bool) -> None:
    service: Service = await serve(realtime={"policies": "prices=coalesce", "history_size": 4})
    async with service.raw_connection() as peer:
        if is_followed:
            await Subscriber(peer).open("prices")
        start = await position_of(service, "other")
        await publish_keyed(service, "prices", *[f"{key}{n}" for n in range(9) for key in "abc"])
        await publish(service, "prices", "no key")
        assert await replay(service, "prices", start) == ["a8", "b8", "c8", "no key"]

        await publish(service, "prices", "one more")
        assert await replay(service, "prices", start) == ["evicted"]


@pytest.mark.parametrize("is_followed", [False, True])
async def test_each_topic_of_a_subscription_keeps_its_policy(serve: Any, is_followed: bool) -> None:
    service: Service = await serve(realtime={"policies": "ticker=latest,prices.*=coalesce"})
    topics = "news,ticker,prices.*"
    async with service.raw_connection() as peer:
        if is_followed:
            await Subscriber(peer).open(topics)
        start = await position_of(service, topics)
        for number in range(3):
            await publish(service, "news", f"news {number}")
            await publish(service, "ticker", f"ticker {number}")
            await publish_keyed(service, "prices.eu", f"a{number}")
            await publish_keyed(service, "prices.us", f"a{number}")
        told = (await poll(service, topics, start))["events"]

    assert [(event["topic"], event["data"]) for event in told] == [
        ("news", "news 0"),
        ("news", "news 1"),
        ("news", "news 2"),
        ("ticker", "ticker 2"),
        ("prices.eu", "a2"),
        ("prices.us", "a2"),
    ]


@pytest.mark.parametrize(
    "policies",
    ["ticker", "ticker=", "ticker=sometimes", "a b=latest", "x*=latest", "a=latest;b=latest"],
)
async def test_a_malformed_policy_is_refused_at_the_start(policies: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        make_settings(realtime={"policies": policies})
    [line] = explain(caught.value)
    assert line.startswith("APP_REALTIME__POLICIES: ")


@pytest.mark.parametrize("key", ["a b", "a%0Ab", "x" * 129, ""])
async def test_a_malformed_key_is_refused(service: Service, key: str) -> None:
    async with service.client() as client:
        response = await client.post(f"/topics/a/events?key={key}", content="x", headers=TEXT)
    assert response.status_code == 422
