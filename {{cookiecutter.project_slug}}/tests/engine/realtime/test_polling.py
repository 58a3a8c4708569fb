"""Long-polling: one response, with the position to resume from."""

import asyncio
from typing import Any

import pytest

from ..peer import PATIENCE
from ..service import Service
from .poller import poll, position_of
from .subscriber import Subscriber, publish

ROUTE = "GET /topics/{topics}/events"


async def test_without_waiting_the_answer_has_what_is_there(service: Service) -> None:
    start = await position_of(service, "news")
    ids = await publish(service, "news", "a", "b")
    answer = await poll(service, "news", start)

    assert [event["id"] for event in answer["events"]] == ids
    assert answer["events"][0] == {"id": ids[0], "topic": "news", "event": None, "data": "a"}
    assert answer["last_event_id"] == ids[1]
    assert await poll(service, "news", ids[1]) == {"events": [], "last_event_id": ids[1]}


async def test_without_a_position_it_begins_now(service: Service) -> None:
    _, top = await publish(service, "news", "a", "b")
    assert await poll(service, "news") == {"events": [], "last_event_id": top}


async def test_an_event_ends_the_waiting(service: Service) -> None:
    start = await position_of(service, "news")
    waiting = asyncio.create_task(poll(service, "news", start, seconds=60))
    await followed(service)
    [event_id] = await publish(service, "news", "a")
    answer = await waiting

    assert [event["data"] for event in answer["events"]] == ["a"]
    assert answer["last_event_id"] == event_id


async def followed(service: Service) -> None:
    """Wait until there is a subscription."""
    async with asyncio.timeout(PATIENCE):
        while not await service.call(service.app.state.hub.subscriptions):
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_when_nothing_comes_the_answer_is_the_position(service: Service) -> None:
    [top] = await publish(service, "other", "not for them")
    answer = await poll(service, "news", top, seconds=0.1)
    assert answer == {"events": [], "last_event_id": top}
    assert await service.outcome_of(ROUTE) == "complete"


@pytest.mark.slow
async def test_nobody_waits_longer_than_a_stream_may_last(serve: Any) -> None:
    service: Service = await serve(realtime={"max_age": 0.1})
    assert (await poll(service, "news", seconds=60))["events"] == []


@pytest.mark.slow
async def test_a_chain_of_polls_gets_every_event_in_order(service: Service) -> None:
    position = await position_of(service, "news,more.*")
    publishers = [
        asyncio.create_task(publish(service, topic, *map(str, range(50))))
        for topic in ("news", "news", "more.a", "more.b")
    ]
    seen: list[str] = []
    while len(seen) < 200:
        answer = await poll(service, "news,more.*", position, seconds=10)
        assert answer["events"], "a poll with events to come ended without one"
        seen += [event["id"] for event in answer["events"]]
        position = answer["last_event_id"]
        assert position == seen[-1]

    ids = [event_id for task in publishers for event_id in await task]
    assert seen == sorted(ids, key=lambda event_id: int(event_id.partition("-")[2]))


async def test_a_long_backlog_comes_in_several_answers(service: Service) -> None:
    position = await position_of(service, "news")
    ids = await publish(service, "news", *["x" * 10_000] * 30)
    seen: list[str] = []
    answers = 0
    while len(seen) < 30:
        answer = await poll(service, "news", position)
        seen += [event["id"] for event in answer["events"]]
        position, answers = answer["last_event_id"], answers + 1

    assert seen == ids
    assert answers > 1


@pytest.mark.parametrize("lost", ["epoch", "evicted"])
async def test_a_gap_is_told_inside_the_events(serve: Any, lost: str) -> None:
    service: Service = await serve(realtime={"history_size": 2})
    first, *_, top = await publish(service, "news", "a", "b", "c", "d")
    answer = await poll(service, "news", "0-1" if lost == "epoch" else first, seconds=60)

    [event] = answer["events"]
    assert event == {
        "id": top,
        "topic": "news",
        "event": "reset",
        "data": {"topic": "news", "reason": lost, "top": top},
    }
    assert answer["last_event_id"] == top


@pytest.mark.parametrize("seconds", ["60.1", "61", "-1", "nan", "inf", "soon", ""])
async def test_a_wait_that_is_no_wait_is_refused(service: Service, seconds: str) -> None:
    async with service.client() as client:
        response = await client.get(f"/topics/news/events?poll={seconds}")
    assert response.status_code == 422


async def test_an_answer_is_not_kept_by_caches(service: Service) -> None:
    async with service.client() as client:
        response = await client.get("/topics/news/events?poll=0")
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.fault("G25")
async def test_head_of_a_poll_has_the_headers_of_its_answer(service: Service) -> None:
    async with service.client() as client:
        got = await client.get("/topics/news/events?poll=0")
        head = await client.head("/topics/news/events?poll=0")
        refused = await client.head("/topics/news/events?poll=61")

    varying = {"date", "x-request-id", "transfer-encoding", "content-length"}
    assert (head.status_code, head.content, refused.status_code) == (200, b"", 422)
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in got.headers.items() if k not in varying
    }


async def test_a_connection_serves_one_poll_after_the_other(service: Service) -> None:
    async with service.raw_connection() as peer:
        for _ in range(3):
            await peer.get("/topics/news/events?poll=0")
            assert (await peer.read_until(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_drain_answers_at_once(service: Service) -> None:
    [top] = await publish(service, "news", "a")
    waiting = asyncio.create_task(poll(service, "news", top, seconds=60))
    await followed(service)
    await service.call(service.app.state.kernel.drain.begin)

    assert await waiting == {"events": [], "last_event_id": top}
    assert await service.outcome_of(ROUTE) == "drained"


async def test_nothing_is_left_of_a_client_that_leaves(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/topics/news/events?poll=60")
        await peer.read_head()
        peer.reset()
        assert await service.outcome_of(ROUTE) == "client_abort"

    kernel = service.app.state.kernel
    assert (len(kernel.channels), kernel.streams["realtime"]) == (0, 0)
    assert await service.call(service.app.state.hub.subscriptions) == set()


async def test_a_poll_goes_on_where_a_stream_ended(service: Service) -> None:
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        await publish(service, "news", "a")
        position = (await subscriber.block())["id"]
        peer.reset()
    await publish(service, "news", "b")

    assert [e["data"] for e in (await poll(service, "news", position))["events"]] == ["b"]
