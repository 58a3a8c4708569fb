"""Runs of several processes on one Redis: started here, followed, stopped and ended there."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.realtime import Message, RunRouter
from {{cookiecutter.package_name}}.engine.realtime.runs import (
    router as router_module,
    writer as writer_module,
)
from {{cookiecutter.package_name}}.engine.realtime.runs.others import LOST_AFTER

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import Service, ServiceProcess
from .redis import Proxy, until
from .runs import Follower, Script, follow, start
from .test_runs_attach import (  # noqa: F401  (Again, on Redis.)
    service,
    test_a_client_chooses_the_id_of_a_run,
    test_a_key_is_for_one_body,
    test_a_repeated_request_gets_the_run_of_the_first,
    test_a_run_that_has_ended_is_not_started_again,
    test_a_start_is_not_cut_short_by_a_request_that_is_cancelled,
    test_requests_at_the_same_time_start_one_run,
    test_the_active_run_of_a_key_is_found_until_it_ends,
    test_the_newest_active_run_of_a_key_is_found,
)

__all__ = ["redis", "stopped_redis"]


@pytest.fixture
def sections(sections: dict[str, dict[str, Any]], redis: RedisServer) -> dict[str, dict[str, Any]]:
    """The default settings, with Redis."""
    return {**sections, "realtime": {"broker_url": redis.url}}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def two(
    serve: Callable[..., Any], redis: RedisServer, script: Script
) -> tuple[Service, Service]:
    """Two services on one Redis; the first one has the script."""
    realtime = {"broker_url": redis.url}
    return await serve(script.router, realtime=realtime), await serve(realtime=realtime)


async def test_a_run_is_followed_resumed_and_stopped_in_another_process(
    two: tuple[Service, Service], script: Script
) -> None:
    one, other = two
    run_id = await start(one)
    await script.say(one, "a", "b")
    async with other.raw_connection() as peer, other.client() as client:
        follower = Follower(peer)
        await follower.follow(run_id)
        first = await follower.block()
        assert [first["data"], (await follower.block())["data"]] == ["a", "b"]
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
        [end] = await follower.rest()
    assert await script.closed()

    assert end["data"] == '{"status":"stopped"}'
    resumed = await follow(other, run_id, f"?last_event_id={first['id']}")
    assert [block["data"] for block in resumed] == ["b", '{"status":"stopped"}']
    async with other.client() as client:
        response = await client.get(f"/runs/{run_id}/events?last_event_id={end['id']}")
    assert response.status_code == 204


async def test_a_run_of_another_process_goes_on_for_as_long_as_that_is_alive(
    two: tuple[Service, Service], script: Script
) -> None:
    one, other = two
    run_id = await start(one)
    async with other.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        for _ in range(LOST_AFTER * 3):
            await one.in_server(one.app.state.runs.tend())
            await other.in_server(other.app.state.runs.tend())
        await script.say(one, "a", None)
        blocks = await follower.rest()

    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']


@pytest.mark.slow
async def test_runs_of_a_process_that_was_killed_are_ended_by_one_that_follows_them(
    serve: Callable[..., Any], redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ServiceProcess(tmp_path, REALTIME__BROKER_URL=redis.url) as killed:
        run_id = await start(killed, "counter", interval=60)
        async with killed.raw_connection() as peer:
            follower = Follower(peer)
            await follower.follow(run_id)
            await follower.block()
            killed.kill()
            await killed.exit_code()
    monkeypatch.setattr(router_module, "ALIVE_SECONDS", 0.01)
    others = [await serve(realtime={"broker_url": redis.url}) for _ in range(2)]
    async with others[0].raw_connection() as one, others[1].raw_connection() as two:
        followers = [Follower(one), Follower(two)]
        for follower in followers:
            await follower.follow(run_id)
        texts = [[block["data"] for block in await follower.rest()] for follower in followers]

    assert texts == [['{"number":1,"of":10}', '{"status":"interrupted"}']] * 2
    assert [block["data"] for block in await follow(others[0], run_id)] == texts[0]


async def test_followers_in_another_process_are_told_when_the_service_of_a_run_ends(
    serve: Callable[..., Any], redis: RedisServer, script: Script
) -> None:
    realtime = {"broker_url": redis.url}
    other = await serve(realtime=realtime)
    async with other.raw_connection() as peer:
        follower = Follower(peer)
        async with Service(script.router, realtime=realtime) as one:
            run_id = await start(one)
            await follower.follow(run_id)
        [end] = await follower.rest()

    assert end["data"] == '{"status":"interrupted"}'
    assert await script.closed()


async def test_a_run_waits_for_a_redis_that_is_away_and_loses_nothing(
    two: tuple[Service, Service],
    script: Script,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.05)
    one, other = two
    run_id = await start(one)
    async with other.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        await script.say(one, "a")
        assert (await follower.block())["data"] == "a"
        await redis.stop()
        await script.say(one, "b", "c", None)
        await redis.start()
        blocks = await follower.rest()

    assert [block["data"] for block in blocks] == ["b", "c", '{"status":"complete"}']


@pytest.mark.parametrize("is_followed", [False, True])
async def test_an_event_whose_reply_is_lost_is_not_published_twice(
    is_followed: bool,
    serve: Callable[..., Any],
    script: Script,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.05)
    async with Proxy(redis) as proxy, AsyncExitStack() as stack:
        service = await serve(script.router, realtime={"broker_url": proxy.url})
        run_id = await start(service)
        if is_followed:
            peer = await stack.enter_async_context(service.raw_connection())
            await Follower(peer).follow(run_id)
        for word in ("a", "b", "b"):
            proxy.losses = 1
            await script.say(service, word)
            await until(has_lost(proxy))
        await script.say(service, None)
        blocks = await follow(service, run_id)

    assert [block["data"] for block in blocks] == ["a", "b", "b", '{"status":"complete"}']


def has_lost(proxy: Proxy) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return not proxy.losses

    return check


async def test_a_run_goes_on_when_redis_has_lost_everything(
    two: tuple[Service, Service], script: Script, redis: RedisServer
) -> None:
    one, other = two
    run_id = await start(one)
    async with other.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        await script.say(one, "a")
        assert (await follower.block())["data"] == "a"
        await redis.run("FLUSHALL")
        await script.say(one, "b")
        assert (await follower.block())["event"] == "reset"
        assert (await follower.block())["data"] == "b"
        await script.say(one, None)
        [end] = await follower.rest()

    assert end["data"] == '{"status":"complete"}'


@pytest.mark.parametrize("rounds", [LOST_AFTER - 1, LOST_AFTER])
async def test_a_run_of_which_nobody_could_hear_while_redis_was_full_goes_on(
    rounds: int, two: tuple[Service, Service], script: Script, redis: RedisServer
) -> None:
    one, other = two
    run_id = await start(one)
    async with other.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        await one.in_server(one.app.state.runs.tend())
        await other.in_server(other.app.state.runs.tend())
        await redis.run("CONFIG", "SET", "maxmemory", 1)
        for _ in range(rounds):
            with suppress(Problem):
                await other.in_server(other.app.state.runs.tend())
        await redis.run("CONFIG", "SET", "maxmemory", 0)
        await other.in_server(other.app.state.runs.tend())
        await script.say(one, "a", None)
        blocks = await follower.rest()

    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']


async def test_whoever_publishes_can_be_cancelled_at_any_moment(
    two: tuple[Service, Service],
) -> None:
    """A stop is delivered once; a client of Redis can lose it while it sends a command."""
    one, _ = two

    async def publish() -> None:
        while True:
            await one.app.state.hub.publish("news", Message("a"))

    async def is_lost(turns: int) -> bool:
        task = asyncio.create_task(publish())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
        is_lost = not task.done()
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        return is_lost

    assert [turns for turns in range(100) if await one.in_server(is_lost(turns))] == []


class Counting:
    """The run `count` of a process, which waits before the number `stops_at`."""

    def __init__(self, stops_at: int | None) -> None:
        self.router = RunRouter(prefix="/runs")
        self.starts: list[int] = []

        async def again(messages: list[Message], to: int) -> AsyncGenerator[str]:
            self.starts.append(len(messages))
            for number in range(len(messages), to):
                yield f"{number}"

        @self.router.run("/count", resume=again)
        async def count(to: int) -> AsyncGenerator[str]:
            for number in range(to):
                if number == stops_at:
                    await asyncio.Event().wait()
                yield f"{number}"


@pytest.fixture
async def pair(
    serve: Callable[..., Any], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> tuple[Service, Service, Counting]:
    """A service whose runs wait, and one that continues them; tended by the test."""
    monkeypatch.setattr(router_module, "ALIVE_SECONDS", 3600)
    realtime = {"broker_url": redis.url, "history_size": 30}
    waiting, going_on = Counting(stops_at=100), Counting(stops_at=None)
    services = [await serve(each.router, realtime=realtime) for each in (waiting, going_on)]
    return services[0], services[1], going_on


async def published(process: Service, run_id: str, last: str) -> None:
    """Return when a process has heard an event with this text."""

    async def heard() -> None:
        subscription = await process.app.state.hub.subscribe((f"run:{run_id}",))
        ring = subscription.ring
        while not ring or ring.after(ring.last - 1)[-1].message.data != last:
            await asyncio.sleep(0.001)
        subscription.close()

    await process.in_server(heard())


@pytest.mark.parametrize("is_orderly", [False, True])
async def test_another_process_continues_after_the_last_event(
    pair: tuple[Service, Service, Counting], is_orderly: bool
) -> None:
    one, other, going_on = pair
    async with one.client() as client:
        run_id = (await client.post("/runs/count", json={"to": 150})).json()["id"]
    await published(other, run_id, "99")
    runs = other.app.state.runs
    await other.in_server(runs.tend())  # It begins to hear of runs.
    await one.in_server(one.app.state.runs.tend())
    if is_orderly:
        await one.in_server(one.app.state.runs.close())
        await other.in_server(asyncio.sleep(0.1))
    for _ in range(2 if is_orderly else LOST_AFTER + 3):
        await other.in_server(runs.tend())
    blocks = await follow(other, run_id)

    assert [block["data"] for block in blocks] == [
        *map(str, range(150)), '{"status":"complete"}',
    ]  # fmt: skip
    assert going_on.starts == [100]
    assert not one.app.state.runs._running or not is_orderly


async def test_a_process_that_was_only_suspended_does_not_go_on(
    pair: tuple[Service, Service, Counting],
) -> None:
    one, other, going_on = pair
    key = secrets.token_hex(8)
    async with one.client() as client:
        headers = {"Idempotency-Key": key}
        body = {"to": 150}
        run_id = (await client.post("/runs/count", json=body, headers=headers)).json()["id"]
    await published(other, run_id, "99")
    await other.in_server(other.app.state.runs._continue(run_id))
    blocks = await follow(one, run_id)

    assert [block["data"] for block in blocks][:-1] == [*map(str, range(150))]
    assert going_on.starts == [100]
    while one.app.state.runs.count():
        await asyncio.sleep(0)
    again = await follow(other, run_id)
    assert [block["data"] for block in again] == [block["data"] for block in blocks]
    async with one.client() as client:
        repeated = await client.post("/runs/count", json=body, headers=headers)
    assert (repeated.status_code, repeated.json()["id"]) == (200, run_id)


async def test_a_run_that_was_stopped_while_no_process_had_it_is_not_continued(
    pair: tuple[Service, Service, Counting],
) -> None:
    one, other, going_on = pair
    async with one.client() as client:
        run_id = (await client.post("/runs/count", json={"to": 150})).json()["id"]
    await published(other, run_id, "99")
    await one.in_server(one.app.state.runs.close())
    async with other.client() as client:
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
    await other.in_server(other.app.state.runs._continue(run_id))
    blocks = await follow(other, run_id)

    assert blocks[-1]["data"] == '{"status":"stopped"}'
    assert going_on.starts == []


async def test_one_process_continues_a_run(
    serve: Callable[..., Any], pair: tuple[Service, Service, Counting], redis: RedisServer
) -> None:
    one, other, going_on = pair
    third = Counting(stops_at=None)
    last = await serve(third.router, realtime={"broker_url": redis.url, "history_size": 30})
    async with one.client() as client:
        run_id = (await client.post("/runs/count", json={"to": 150})).json()["id"]
    await published(other, run_id, "99")
    await asyncio.gather(
        *(each.in_server(each.app.state.runs._continue(run_id)) for each in (other, last))
    )
    blocks = await follow(one, run_id)

    assert [block["data"] for block in blocks][:-1] == [*map(str, range(150))]
    assert sorted([going_on.starts, third.starts]) == [[], [100]]
