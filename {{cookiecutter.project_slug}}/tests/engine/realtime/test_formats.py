"""The formats of a stream of topics: Server-Sent Events and JSON Lines."""

import json
from typing import Any

import pytest
from fastapi import APIRouter, Response

from {{cookiecutter.package_name}}.engine.realtime import Publisher
from {{cookiecutter.package_name}}.engine.realtime.router import HubDep
from {{cookiecutter.package_name}}.engine.realtime.streams import EventStream
from {{cookiecutter.package_name}}.engine.realtime.subscription import Subscription

from ..peer import Peer
from ..service import Service, resolved
from .subscriber import TEXT, Subscriber, publish

JSON = {"Content-Type": "application/json"}
LINES = "Accept: application/jsonl"
ROUTE = "GET /topics/{topics}/events"


async def follow_lines(peer: Peer, topics: str, *headers: str) -> bytes:
    """Subscribe, wait for the first line, and return the headers."""
    await peer.get(f"/topics/{topics}/events", LINES, *headers)
    head = await peer.read_head()
    assert await line(peer) == ""
    return head


async def line(peer: Peer) -> str:
    """Return the next line, without its end and chunked framing."""
    text = "\r\n"
    while text.endswith("\r\n"):
        text = (await peer.read_until(b"\n")).decode()
    return text.removesuffix("\n")


async def test_json_lines_have_json_nested_and_text_as_a_string(service: Service) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        head = (await follow_lines(peer, "news")).decode().lower()
        url = "/topics/news/events"
        body = b'{ "a": [1.50, "\xc3\xa4\\n"] }'
        first = await client.post(f"{url}?event=price", content=body, headers=JSON)
        second = await client.post(url, content="line\nä\u2028 {}", headers=TEXT)
        lines = [await line(peer), await line(peer)]

    assert "content-type: application/jsonl\r\n" in head
    assert json.loads(lines[0]) == {
        "id": first.json()["id"],
        "topic": "news",
        "event": "price",
        "data": {"a": [1.5, "ä\n"]},
    }
    assert "1.50" in lines[0]
    assert json.loads(lines[1]) == {
        "id": second.json()["id"],
        "topic": "news",
        "event": None,
        "data": "line\nä\u2028 {}",
    }


@pytest.mark.trap("R10")
async def test_json_lines_begin_at_once_and_are_not_buffered(service: Service) -> None:
    async with service.raw_connection() as peer:
        head = (await follow_lines(peer, "news")).decode().lower()

    assert "cache-control: no-cache, no-transform" in head
    assert "x-accel-buffering: no" in head


@pytest.mark.slow
async def test_silent_json_lines_show_that_they_are_alive(serve: Any) -> None:
    service: Service = await serve(realtime={"heartbeat": 0.1})
    async with service.raw_connection() as peer:
        await follow_lines(peer, "news")
        assert await line(peer) == ""
        await publish(service, "news", "a")
        text = ""
        while not text:
            text = await line(peer)
        assert json.loads(text)["data"] == "a"


async def test_json_lines_are_resumed(service: Service) -> None:
    first, *rest = await publish(service, "news", "a", "b", "c")
    async with service.raw_connection() as peer:
        await follow_lines(peer, "news,other.*", f"Last-Event-ID: {first}")
        assert [json.loads(await line(peer))["id"] for _ in rest] == rest


async def test_a_gap_is_told_in_a_line(serve: Any) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    first, *_, top = await publish(service, "news", "a", "b", "c", "d")
    async with service.raw_connection() as peer:
        await follow_lines(peer, "news", f"Last-Event-ID: {first}")
        told = json.loads(await line(peer))
        [after] = await publish(service, "news", "e")
        event = json.loads(await line(peer))

    assert told == {
        "id": top,
        "topic": "news",
        "event": "reset",
        "data": {"topic": "news", "reason": "evicted", "top": top},
    }
    assert (event["id"], event["data"]) == (after, "e")


@pytest.mark.trap("R11")
async def test_a_drain_tells_in_a_line_when_to_come_back(service: Service) -> None:
    async with service.raw_connection() as peer:
        await follow_lines(peer, "news")
        await service.call(service.app.state.kernel.drain.begin)
        told = json.loads(await line(peer))
        rest = await peer.read_until(b"0\r\n\r\n")

    assert told["event"] == "reconnect"
    assert 1000 <= told["data"]["retry"] <= 5000
    assert rest == b"\r\n0\r\n\r\n"
    assert await service.outcome_of(ROUTE) == "drained"


@pytest.mark.trap("R13")
async def test_a_failure_is_told_in_a_line_and_then_aborts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("secret")

    async with service.raw_connection() as peer:
        await follow_lines(peer, "news")
        monkeypatch.setattr(Subscription, "take", broken)
        await publish(service, "news", "a")
        text = await line(peer)
        rest = await peer.read_to_end()

    told = json.loads(text)
    assert (told["event"], told["data"]["status"]) == ("error", 500)
    assert "secret" not in text
    assert not rest.endswith(b"0\r\n\r\n")
    assert await service.outcome_of(ROUTE) == "server_error"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("text/html,application/xhtml+xml", "text/event-stream"),
        ("text/event-stream, application/jsonl;q=0.5", "text/event-stream"),
        ("application/jsonl;q=0", "text/event-stream"),
        ("application/jsonl", "application/jsonl"),
        ("Application/JSONL; charset=utf-8", "application/jsonl"),
        ("application/jsonl, */*;q=0.1", "application/jsonl"),
        ("text/event-stream;q=0.5, application/jsonl", "application/jsonl"),
    ],
)
async def test_the_client_chooses_the_format(
    service: Service, accept: str, media_type: str
) -> None:
    async with service.client() as client:
        headers = {"Accept": accept}
        async with client.stream("GET", "/topics/news/events", headers=headers) as response:
            assert response.headers["content-type"].partition(";")[0] == media_type
            assert response.headers["vary"].lower() == "accept"


async def test_the_first_words_of_an_event_stream_are_when_and_where_to_come_back(
    serve: Any,
) -> None:
    service: Service = await serve(realtime={"retry": "1.5 s"})
    [top] = await publish(service, "news", "a")
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
    # Without data it sets the position of an EventSource, and is not an event.
    assert subscriber.greeting == {"retry": "1500", "id": top}


@pytest.mark.parametrize("path", ["topics/news/events?opening=false", "own"])
async def test_a_stream_without_an_opening_begins_with_its_first_event(
    serve: Any, path: str
) -> None:
    router = APIRouter()

    @router.get("/own")
    async def own(hub: HubDep) -> Response:
        return EventStream(hub, ("news",), opening=False)

    service: Service = await serve(router, realtime={"retry": "1.5 s"})
    async with service.raw_connection() as peer:
        await peer.get(f"/{path}")
        await peer.read_head()
        await peer.read_until(b"\nretry: 1500\n")  # Sent at once: proxies hold headers until then.
        [event_id] = await publish(service, "news", "a")
        assert await Subscriber(peer).block() == {"id": event_id, "data": "a"}


UNICODE = "\x85 \u2028 \u2029 é"


@pytest.mark.parametrize("accept", ["text/event-stream", "application/jsonl"])
@pytest.mark.parametrize("topics", ["news", "news,other"])
async def test_json_has_no_characters_that_some_clients_take_for_line_ends(
    service: Service, accept: str, topics: str
) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        await peer.get(f"/topics/{topics}/events", f"Accept: {accept}")
        await peer.read_head()
        url, body = "/topics/news/events?event=x", json.dumps([UNICODE], ensure_ascii=False)
        await client.post(url, content=body.encode(), headers=JSON)
        await service.in_server(Publisher(service.app).publish("news", {"a": UNICODE}, event="y"))
        found = b"".join([await peer.read_until(mark) for mark in (b"\\u2029 \xc3\xa9",) * 2])

    assert not {"\x85", "\u2028", "\u2029"} & {*found.decode()}
    assert found.count(b"\\u0085 \\u2028 \\u2029") == 2


async def test_text_of_an_event_stream_is_unchanged(service: Service) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        await publish(service, "news", UNICODE)
        assert (await subscriber.block())["data"] == UNICODE


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_of_any_version_of_http_gets_plain_events(
    service: Service, version: str
) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/topics/news/events", version=version)
        head = await peer.read_head()
        await peer.read_until(b"\n\n")
        await publish(service, "news", "a")
        assert b"data: a\n\n" in await peer.read_until(b"\n\n")

    assert (b"chunked" in head.lower()) == (version == "1.1")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/jsonl"])
async def test_head_tells_of_the_stream_and_ends(service: Service, accept: str) -> None:
    async with service.client() as client:
        response = await client.head("/topics/news/events", headers={"Accept": accept})
        refused = await client.head("/topics/a b/events")

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"].partition(";")[0] == accept
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert refused.status_code == 422
    assert await service.call(service.app.state.hub.subscriptions) == set()


@pytest.mark.trap("E7")
async def test_the_description_of_the_api_names_the_formats_and_the_refusals(
    service: Service,
) -> None:
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()
    operations = document["paths"]["/topics/{topics}/events"]
    subscribing = operations["get"]["responses"]

    content = subscribing["200"]["content"]
    assert content.keys() == {"text/event-stream", "application/jsonl", "application/json"}
    event = resolved(document, content["text/event-stream"]["schema"])
    assert event["properties"].keys() == {"id", "event", "data", "retry"}
    line = resolved(document, content["application/jsonl"]["schema"])
    assert line["properties"].keys() == {"id", "topic", "event", "data"}
    assert {"422", "429", "503"} <= subscribing.keys()
    assert operations.keys() == {"get", "post"}
    assert "opening" in {each["name"] for each in operations["get"]["parameters"]}
    publishing = operations["post"]
    assert publishing["requestBody"]["content"].keys() == {"application/json", "text/plain"}
    assert {"202", "413", "415", "422", "429"} <= publishing["responses"].keys()
