"""Many subscribers: each receives every event, and those that do not read cost little."""

import asyncio
import gc
import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import pytest

from ..peer import PATIENCE, Peer
from ..service import SOAK, Service, ServiceProcess
from .subscriber import TEXT, Subscriber, publish

ROUTE = "GET /topics/{topics}/events"
#: Events of one round of publishing and reading.
ROUND = 50


async def publish_round(process: ServiceProcess, readers: list[Peer], number: int) -> None:
    """Publish events of 5 kB, and check that each reader receives them once and in order."""
    mark = f"round {number:04}"
    async with process.client() as client:
        for index in range(ROUND):
            text = mark if index == ROUND - 1 else "x" * 5000
            await client.post("/topics/news/events", content=text, headers=TEXT)

    async def read(peer: Peer) -> None:
        received = await peer.read_until(mark.encode() + b"\n\n")
        numbers = [int(found) for found in re.findall(rb"id: [0-9a-z]+-(\d+)\n", received)]
        assert numbers == list(range(number * ROUND + 1, (number + 1) * ROUND + 1))

    await asyncio.gather(*map(read, readers))


async def come_back(process: ServiceProcess, position: str, top: int) -> bool:
    """Resume, and return whether all events were replayed; otherwise there must be a reset."""
    async with process.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news", f"Last-Event-ID: {position}")
        block = await subscriber.block()
        if block.get("event") == "reset":
            assert json.loads(block["data"])["top"].endswith(f"-{top}")
            return False
        epoch = position.partition("-")[0]
        for number in range(int(position.partition("-")[2]) + 1, top + 1):
            assert block["id"] == f"{epoch}-{number}"
            block = await subscriber.block() if number < top else block
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")
@pytest.mark.slow
async def test_who_does_not_read_holds_nobody_up_and_costs_little(tmp_path: Path) -> None:
    rounds = 6 * min(SOAK, 10)
    async with (
        ServiceProcess(tmp_path, REALTIME__HISTORY_BYTES="1 MiB") as process,
        AsyncExitStack() as stack,
    ):

        async def follow(receive_buffer: int | None) -> tuple[Peer, str]:
            peer = await stack.enter_async_context(process.raw_connection(receive_buffer))
            subscriber = Subscriber(peer)
            await subscriber.open("news")
            return peer, subscriber.greeting["id"]

        readers = [(await follow(None))[0] for _ in range(20)]
        for number in range(rounds):
            await publish_round(process, readers, number)
        before = process.peak_memory()

        stalled = [(await follow(4096))[1] for _ in range(20)]
        for number in range(rounds, 2 * rounds):
            await publish_round(process, readers, number)
        assert process.peak_memory() - before <= 20 * 200 * 1024

        assert not await come_back(process, stalled[0], 2 * rounds * ROUND)
        epoch = stalled[0].partition("-")[0]
        later = f"{epoch}-{(2 * rounds - 1) * ROUND}"
        assert await come_back(process, later, 2 * rounds * ROUND)


@pytest.mark.slow
async def test_all_of_many_subscribers_get_every_event(service: Service) -> None:
    async with AsyncExitStack() as stack:
        subscribers = []
        for number in range(300):
            peer = await stack.enter_async_context(service.raw_connection())
            subscribers.append(Subscriber(peer))
            await subscribers[-1].open("news" if number % 3 else "news,other.*")
        ids = await publish(service, "news", *map(str, range(20)))

        for subscriber in subscribers:
            assert [(await subscriber.block())["id"] for _ in ids] == ids


async def test_more_subscribers_than_are_woken_at_once_get_every_event_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from {{cookiecutter.package_name}}.engine.realtime import hub

    monkeypatch.setattr(hub, "WAKE_AT_ONCE", 3)
    async with AsyncExitStack() as stack:
        subscribers = []
        for _ in range(20):
            peer = await stack.enter_async_context(service.raw_connection())
            subscribers.append(Subscriber(peer))
            await subscribers[-1].open("news")
        ids = await publish(service, "news", *map(str, range(20)))
        for subscriber in subscribers:
            assert [(await subscriber.block())["id"] for _ in ids] == ids


def running() -> tuple[int, int]:
    """Return the number of tasks, and of suspended coroutines and generators."""
    kinds = (CoroutineType, GeneratorType, AsyncGeneratorType)
    frames = ("cr_frame", "gi_frame", "ag_frame")
    suspended = [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, kinds) and any(getattr(thing, name, None) for name in frames)
    ]
    return len(asyncio.all_tasks()), len(suspended)


async def no_more_than(before: tuple[int, int]) -> bool:
    """Wait until no more are running than before; False after a timeout."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while any(now > then for now, then in zip(running(), before, strict=True)):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


async def vanish(service: Service, path: str, *headers: str) -> None:
    """Open a stream, wait until it sends an event, and reset the connection."""
    async with service.raw_connection() as peer:
        await peer.get(path, *headers)
        await peer.read_head()
        await publish(service, "news", "x" * 1000)
        peer.reset()
    assert await service.outcome_of(ROUTE) in ("client_abort", "complete")


@pytest.mark.usefixtures("no_collector")
@pytest.mark.slow
async def test_nothing_is_left_of_clients_that_vanish(service: Service) -> None:
    kinds: list[tuple[Any, ...]] = [
        ("/topics/news/events",),
        ("/topics/news,other.*/events", "Last-Event-ID: 0-1"),
        ("/topics/news/events", "Accept: application/jsonl"),
        ("/topics/news/events?poll=60",),
    ]
    for kind in kinds:  # Create objects that remain, such as the rings of the topics.
        await vanish(service, *kind)
    before = await service.call(running)
    for _ in range(13 * SOAK):
        for kind in kinds:
            await vanish(service, *kind)

    assert await service.in_server(no_more_than((before[0] + 1, before[1] + 10)))
    kernel, hub = service.app.state.kernel, service.app.state.hub
    assert (len(kernel.channels), sum(kernel.streams.values())) == (0, 0)
    assert await service.call(hub.subscriptions) == set()
