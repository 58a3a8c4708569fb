"""An empty position counts as none, wherever a client may send one; other empty values do not.

Proxies and clients send headers without a value, such as `Last-Event-ID:` before the first event,
and `?x=` of a form field that is empty.
"""

import json
from typing import Any

import pytest

from ..service import Service
from .conversation import converse
from .poller import poll
from .runs import Follower, Script, start
from .subscriber import TEXT, Subscriber, publish

CLOSE = "Connection: close"
EMPTY = ["Last-Event-ID:", "Last-Event-ID: ", "Last-Event-ID: \t "]

empty = pytest.mark.parametrize("header", EMPTY)


@pytest.fixture
async def script(serve: Any) -> tuple[Service, Script]:
    script = Script()
    return await serve(script.router), script


@pytest.mark.fault("F6")
@empty
async def test_an_empty_header_leaves_the_query_its_say(service: Service, header: str) -> None:
    first, second, _ = await publish(service, "news", "a", "b", "c")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", header, query=f"?last_event_id={first}")
        assert subscriber.greeting["id"] == first
        block = await subscriber.block()

    assert (block["id"], block["data"]) == (second, "b")


@pytest.mark.fault("F6")
@empty
async def test_json_lines_leave_the_query_its_say(service: Service, header: str) -> None:
    first, *rest = await publish(service, "news", "a", "b")
    async with service.raw_connection() as peer:
        path = f"/topics/news/events?last_event_id={first}"
        await peer.get(path, header, "Accept: application/jsonl")
        rest += await publish(service, "news", "c")
        text = (await peer.read_until(b"}")).decode()

    assert json.loads(text[text.index("{") :])["id"] == rest[0]


@pytest.mark.fault("F6")
@empty
async def test_a_poll_leaves_the_query_its_say(service: Service, header: str) -> None:
    first, second = await publish(service, "news", "a", "b")
    async with service.raw_connection() as peer:
        await peer.get(f"/topics/news/events?poll=0&last_event_id={first}", header, CLOSE)
        answer = (await peer.read_to_end()).decode()

    assert '"events":[]' not in answer
    assert f'"id":"{second}"' in answer


@pytest.mark.fault("F6")
@empty
async def test_a_run_leaves_the_query_its_say(script: tuple[Service, Script], header: str) -> None:
    service, words = script
    run_id = await start(service)
    await words.say(service, "a", "b", None)
    async with service.raw_connection() as peer, service.raw_connection() as other:
        follower, again = Follower(peer), Follower(other)
        await follower.follow(run_id)
        seen = (await follower.rest())[0]["id"]
        await again.follow(run_id, header, query=f"?last_event_id={seen}")
        assert [block["data"] for block in await again.rest()][:-1] == ["b"]


async def test_an_empty_query_leaves_the_header_its_say(service: Service) -> None:
    first, _ = await publish(service, "news", "a", "b")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", f"Last-Event-ID: {first}", query="?last_event_id=")
        assert subscriber.greeting["id"] == first


@pytest.mark.parametrize("query", ["?last_event_id=", "?last_event_id=%20"])
@empty
async def test_without_a_position_a_stream_begins_now(
    service: Service, header: str, query: str
) -> None:
    _, top = await publish(service, "news", "a", "b")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", header, query=query)
        await publish(service, "news", "c")
        block = await subscriber.block()

    assert subscriber.greeting["id"] == top
    assert ("event" in block, block["data"]) == (False, "c")


@pytest.mark.fault("F6")
async def test_a_poll_with_a_blank_position_begins_now(service: Service) -> None:
    [top] = await publish(service, "news", "a")
    assert await poll(service, "news", " ") == {"events": [], "last_event_id": top}


@pytest.mark.fault("F6")
@pytest.mark.parametrize("position", ["", " "])
async def test_an_empty_position_of_a_command_is_none(service: Service, position: str) -> None:
    [top] = await publish(service, "news", "a")
    async with converse(service, "other") as client:
        answer = await client.ask("subscribe", topics=["news"], last_event_id=position)
        await publish(service, "news", "b")
        event = await client.next()

    assert (answer["type"], answer["last_event_id"]) == ("subscribed", top)
    assert event["type"] == "event"
    assert event["data"] == "b"


@pytest.mark.parametrize(
    "query",
    ["?last_event_id=", pytest.param("?last_event_id=%20", marks=pytest.mark.fault("F6"))],
)
async def test_an_empty_position_of_a_websocket_is_none(service: Service, query: str) -> None:
    [top] = await publish(service, "news", "a")
    async with converse(service, "news", query) as client:
        await publish(service, "news", "b")
        event = await client.next()

    assert client.greeting["last_event_id"] == top
    assert event["type"] == "event"
    assert event["data"] == "b"


@pytest.mark.parametrize(
    ("query", "header"),
    [("?event=", {}), ("?key=", {}), ("", {"Idempotency-Key": ""})],
)
async def test_an_empty_name_is_refused(
    service: Service, query: str, header: dict[str, str]
) -> None:
    """If they counted as none, a publisher would lose its protection or its type."""
    async with service.client() as client:
        url = f"/topics/news/events{query}"
        response = await client.post(url, content="x", headers=TEXT | header)

    assert response.status_code == 422


async def test_an_empty_number_is_refused(service: Service) -> None:
    async with service.client() as client:
        assert (await client.get("/topics/news/events?poll=")).status_code == 422
