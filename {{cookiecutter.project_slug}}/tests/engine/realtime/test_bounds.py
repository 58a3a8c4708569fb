"""The work and the memory that one client can cost the hub are bounded."""

import asyncio
import shutil
import sys
import time
import tracemalloc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import streams
from {{cookiecutter.package_name}}.engine.realtime.messages import Message

from ..peer import Peer
from ..service import SOAK, Service, ServiceProcess
from . import filling
from .conversation import Conversation, converse, refusal
from .subscriber import Subscriber, publish

#: Events that are published before all of them are received, so that no follower is too slow.
ROUND = 800


async def publish_small(service: ServiceProcess, client: Conversation, rounds: int) -> None:
    """Publish small events, which the client follows."""
    async with service.client() as http:
        for _ in range(rounds):
            assert (await http.post(f"/fill?count={ROUND}")).status_code == 200
            await client.data(ROUND)


async def drain(peer: Peer) -> None:
    """Read and discard all bytes."""
    while True:
        await peer.read(1)
        peer.unread = b""


async def fill(service: Service, topics: int, rounds: int, text: str = "x" * 100) -> str:
    """Publish on many topics in turn, and return the position before the first event."""
    hub = service.app.state.hub

    async def work() -> str:
        start = await hub.publish("start", Message("x"))
        for _ in range(rounds):
            for number in range(topics):
                await hub.publish(f"a.{number}", Message(text))
        return str(start)

    return await service.in_server(work())


async def follow(service: Service, position: str, ids: list[str]) -> str:
    """Read events of a prefix until the `reconnect`, and return the last position."""
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a.*", f"Last-Event-ID: {position}", "Connection: close")
        while "id" in (block := await subscriber.block()):
            position = block["id"]
            ids.append(position)
            assert len(ids) < 6000, "it goes on"
        assert block["event"] == "reconnect"
        assert "retry" in block
        assert (await subscriber.ending()).endswith(b"0\r\n\r\n")
    return position


@pytest.mark.usefixtures("no_collector")  # It would collect the objects of all tests.
@pytest.mark.bound("5.1")
async def test_a_replay_of_a_prefix_costs_what_it_sends_and_not_all_that_is_kept(
    serve: Any,
) -> None:
    service: Service = await serve(streaming={"send_timeout": 30})
    position = await fill(service, 1000 * SOAK, 100)
    ids: list[str] = []
    cpu = await service.call(time.thread_time)
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a.*", f"Last-Event-ID: {position}")
        while len(ids) < 4000:
            ids.append((await subscriber.block())["id"])
    assert await service.call(time.thread_time) - cpu < 0.2
    numbers = [int(event_id.rpartition("-")[2]) for event_id in ids]
    assert numbers == list(range(2, 4002))


@pytest.mark.bound("5.2")
@pytest.mark.slow
async def test_a_replay_ends_after_so_many_events_and_goes_on_from_the_last_id(
    serve: Any,
) -> None:
    service: Service = await serve(streaming={"send_timeout": 30})
    position = await fill(service, 50, 125)
    ids: list[str] = []
    position = await follow(service, position, ids)
    assert len(ids) >= 5000

    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("a.*", f"Last-Event-ID: {position}")
        while len(ids) < 6250:
            ids.append((await subscriber.block())["id"])
        [new] = await publish(service, "a.0", "new")
        assert (await subscriber.block())["id"] == new
    numbers = [int(event_id.rpartition("-")[2]) for event_id in ids]
    assert numbers == list(range(2, 6252))


@pytest.mark.bound("15.4")
@pytest.mark.slow
async def test_large_events_count_for_more_in_a_replay(serve: Any) -> None:
    service: Service = await serve(streaming={"send_timeout": 30})
    position = await fill(service, 20, 135, "x" * 8192)
    count, last = 0, ""
    async with (
        service.client() as client,
        client.stream("GET", f"/topics/a.*/events?last_event_id={position}") as response,
    ):
        async for line in response.aiter_lines():
            count += line.startswith("id:")
            last = line if line.startswith("event:") else last
            assert count < 2650, "it goes on"
    assert last == "event: reconnect"
    assert count > 2400


@pytest.mark.bound("5.3")
async def test_a_replay_over_a_websocket_ends_after_so_many_events_of_all_topics_together(
    serve: Any,
) -> None:
    service: Service = await serve(streaming={"send_timeout": 30})
    position = await fill(service, 32, 200)
    names = ",".join(f"a.{number}" for number in range(32))
    numbers: list[int] = []
    for most in (5000, 1400):
        async with converse(service, names, f"?last_event_id={position}") as client:
            assert client.greeting["type"] == "subscribed"
            begun = len(numbers)
            while (frame := await client.next())["type"] == "event":
                position = frame["id"]
                numbers.append(int(position.rpartition("-")[2]))
                if len(numbers) == 6400:
                    break
            assert len(numbers) - begun == most
            if most == 5000:
                assert (frame["type"], await client.closed()) == ("reconnect", 1012)
            else:
                [new] = await publish(service, "a.7", "new")
                assert (await client.next())["id"] == new
    assert numbers == list(range(2, 6402))


async def test_a_replay_tells_what_was_evicted_meanwhile_and_loses_nothing_else(
    serve: Any,
) -> None:
    service: Service = await serve(realtime={"history_size": 20})
    position = await fill(service, 20, 10, "x" * 5000)
    hub = service.app.state.hub

    async def read() -> tuple[list[int], list[str]]:
        subscription = await hub.subscribe(("a.*",), position)
        numbers, gaps = [], []
        for turn in range(100):
            reset, events = subscription.take()
            gaps += [reset.reason] if reset else []
            numbers += [event.sequence for event in events]
            if turn < 30:  # Those of one topic evict the next ones of the replay.
                await hub.publish("a.19" if turn % 2 else "b.other", Message("new"))
                await hub.publish("a.new", Message("new"))
        subscription.close()
        return numbers, gaps

    numbers, gaps = await service.in_server(read())
    assert numbers == sorted(set(numbers))
    assert gaps == [] or gaps == ["evicted"]
    if not gaps:
        assert numbers[:200] == list(range(2, 202))


@pytest.mark.bound("4.1")
async def test_polls_of_unknown_names_leave_nothing(service: Service) -> None:
    await publish(service, "news", "x")
    async with service.client() as client:
        for number in range(5):
            names = ",".join(f"u{number}.{each}.*,t{number}.{each}" for each in range(16))
            assert (await client.get(f"/topics/{names}/events?poll=0")).status_code == 200
    hub = service.app.state.hub
    assert await service.call(lambda: hub.followed().keys() <= {"news"})


@pytest.mark.bound("4.2")
async def test_a_poll_of_unknown_prefixes_costs_the_same_however_many_topics_there_are(
    service: Service,
) -> None:
    await fill(service, 10_000, 1)
    async with service.client() as client:
        cpu = await service.call(time.thread_time)
        for number in range(20):
            names = ",".join(f"u{number}.{each}.*" for each in range(32))
            assert (await client.get(f"/topics/{names}/events?poll=0")).status_code == 200
        assert await service.call(time.thread_time) - cpu < 0.6


@pytest.mark.bound("4.3")
@pytest.mark.parametrize(
    ("setting", "refused", "taken", "status"),
    [
        ("max_followed_per_client", "a,c", "c", 429),
        ("max_followed", "c,d", "a,b.*,c", 503),  # Two of these are followed already.
    ],
)
async def test_only_so_many_names_are_followed(
    serve: Any, setting: str, refused: str, taken: str, status: int
) -> None:
    service: Service = await serve(realtime={setting: 3})
    before = await service.reached(f"realtime.{setting}")
    async with service.raw_connection() as peer, service.client() as client:
        await Subscriber(peer).open("a,b.*")
        more = await client.get(f"/topics/{refused}/events?poll=0")
        assert (await client.get(f"/topics/{taken}/events?poll=0")).status_code == 200

    assert more.status_code == status
    assert int(more.headers["retry-after"]) > 0
    assert await service.reached(f"realtime.{setting}") == before + 1


@pytest.mark.bound("4.3")
async def test_each_way_to_name_topics_is_bounded(serve: Any) -> None:
    service: Service = await serve(realtime={"max_followed_per_client": 32})
    names = [",".join(f"{way}{number}" for number in range(32)) for way in "abcde"]
    async with converse(service, names[0]) as client, service.client() as http:
        told = await client.ask("subscribe", topics=["more"])
        statuses = [
            (await http.get(f"/topics/{names[1]}/events{query}", headers=headers)).status_code
            for query in (
                "",
                "?poll=0",
                "?poll=60",
                "?last_event_id=x-1",
                "?poll=0&last_event_id=x-1",
            )
            for headers in ({}, {"Accept": "application/jsonl"})
        ]
        response, _ = await refusal(service, names[2])
        described = await http.head(f"/topics/{names[3]}/events")
        followed = await service.call(service.app.state.hub.followed)

    assert told["problem"]["status"] == 422  # A connection has at most 32 topics.
    assert {*statuses, response.status_code} == {429}
    assert described.status_code == 200
    assert {*followed} == {*names[0].split(",")}


@pytest.mark.bound("6.3")
@pytest.mark.parametrize("text", ["x", "字", "😀", "\x01"], ids=range(4))
async def test_history_counts_the_bytes_that_are_kept(serve: Any, text: str) -> None:
    """Up to four bytes for each character of the text, and the bytes of its encodings."""
    total = 4 << 20
    service: Service = await serve(realtime={"history_total": total})
    hub = service.app.state.hub
    long = text * 4000
    encodings = (streams.sse_event, streams.sse_event_with_topic, streams.json_event)

    async def publish_all() -> int:
        tracemalloc.start()
        by_list = [await hub.subscribe(names) for names in (("t.*",), ("t.0", "t.1"))]
        for number in range(600):
            # Different strings, like those that are read from bodies.
            await hub.publish(f"t.{number % 20}", Message(long[:-4] + f"{number:04}"))
            for subscription in by_list:
                for event in subscription.take()[1]:
                    for encode in encodings:
                        event.frame(encode)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for subscription in by_list:
            subscription.close()
        return size

    assert await service.in_server(publish_all()) <= 1.5 * total


@pytest.mark.slow
@pytest.mark.bound("6.3")
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
async def test_small_events_take_no_more_of_a_process_than_may_be_kept(
    tmp_path: Path,
) -> None:
    total = (4 << 20) * SOAK
    settings = {"STORAGE__URL": "file:data", "REALTIME__HISTORY_TOTAL": str(total)}
    shutil.copy(filling.__file__, tmp_path)
    process = ServiceProcess(tmp_path, "-m", "filling", **settings)
    async with process as service, AsyncExitStack() as stack:
        readers: list[asyncio.Task[Any]] = []
        for names, accept in (("t.*", "text/event-stream"), ("t.7,t.8", "application/jsonl")):
            peer = await stack.enter_async_context(service.raw_connection())
            await peer.get(f"/topics/{names}/events", f"Accept: {accept}")
            readers.append(asyncio.create_task(drain(peer)))
        client = await stack.enter_async_context(converse(service, "t.*,t.9"))
        await publish_small(service, client, 2)
        before = service.peak_memory()
        await publish_small(service, client, 25 * SOAK)
        growth = service.peak_memory() - before
        assert not any(reader.done() for reader in readers)
        for reader in readers:
            reader.cancel()
        assert growth <= total
