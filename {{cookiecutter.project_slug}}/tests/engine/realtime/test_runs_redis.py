"""Runs of several processes on one Redis: started here, followed, stopped and ended there."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.realtime.messages import Message
from {{cookiecutter.package_name}}.engine.realtime.runs import router as router_module, runs as runs_module
from {{cookiecutter.package_name}}.engine.realtime.runs.others import LOST_AFTER

from ..service import Service, ServiceProcess
from .redis import RedisServer, redis, stopped_redis
from .runs import Follower, Script, follow, start
from .test_runs_attach import (  # noqa: F401  (Again, on Redis.)
    service,
    test_a_client_chooses_the_id_of_a_run,
    test_a_key_is_for_one_body,
    test_a_repeated_request_gets_the_run_of_the_first,
    test_a_run_that_has_ended_is_not_started_again,
    test_a_start_is_not_cut_short_by_a_client_that_leaves,
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
    monkeypatch.setattr(runs_module, "RETRY_SECONDS", 0.05)
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
