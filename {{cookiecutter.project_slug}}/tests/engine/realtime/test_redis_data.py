"""The data in Redis, and a Redis whose data has changed: emptied, restored, another server."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime.backends import redis_data
from {{cookiecutter.package_name}}.engine.realtime.backends.redis_lua import FORMAT
from {{cookiecutter.package_name}}.engine.realtime.backends.redis_pool import PREFIX

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import Service
from .poller import position_of, replay
from .redis import Proxy, following, hasty, reset_of, sections, texts, two, until, until_ready
from .subscriber import TEXT, publish

JSON = {"Content-Type": "application/json"}
__all__ = ["hasty", "redis", "sections", "stopped_redis", "two"]


async def test_everybody_is_told_when_redis_has_lost_everything(
    two: tuple[Service, Service], redis: RedisServer
) -> None:
    one, other = two
    async with following(one, "news") as first, following(other, "a,news") as second:
        [before] = await publish(one, "news", "before")
        await texts(first, 1)
        await texts(second, 1)
        await redis.run("FLUSHALL")
        [after] = await publish(other, "news", "after")

        assert (await reset_of(first), await texts(first, 1)) == ("epoch", ["after"])
        assert await reset_of(second) == "epoch"
        assert (await second.block())["id"] == after
        assert before.partition("-")[0] != after.partition("-")[0]
        assert await replay(one, "news", before) == ["epoch"]


async def test_that_redis_has_lost_everything_is_noticed_without_an_event(
    hasty: None, two: tuple[Service, Service], redis: RedisServer
) -> None:
    async with following(two[0], "news") as first, following(two[1], "t.*") as second:
        await redis.run("FLUSHALL")
        assert [await reset_of(s) for s in (first, second)] == ["epoch", "epoch"]


@pytest.mark.parametrize("others", [0, 1, 5, 20])
async def test_everybody_is_told_when_redis_comes_back_with_older_data(
    others: int, hasty: None, serve: Any, redis: RedisServer, tmp_path: Path
) -> None:
    """Even if others have published since, so that its numbers are higher than the service's."""
    service = await serve()
    async with following(service, "news") as first, following(service, "t.*,news") as second:
        await publish(service, "news", "kept")
        await redis.run("SAVE")
        (tmp_path / "older").mkdir()
        shutil.copy(redis.dump, tmp_path / "older")
        [*_, lost] = await publish(service, "news", *"abcde")
        for subscriber in (first, second):
            await texts(subscriber, 6)
        redis.kill()

        async with RedisServer(tmp_path / "older") as older:
            async with Service(realtime={"broker_url": older.url}) as other:
                await publish(other, "news", *["other"] * others)
            await older.stop()
        shutil.copy(older.dump, redis.dump)
        await redis.start()

        assert [await reset_of(s) for s in (first, second)] == ["epoch", "epoch"]
        [event_id] = await publish(service, "news", "new")
        assert [(await s.block())["id"] for s in (first, second)] == [event_id] * 2
        assert await replay(service, "news", lost) == ["epoch"]


async def test_numbers_are_not_given_out_again_also_when_nobody_follows(
    hasty: None, serve: Any, redis: RedisServer
) -> None:
    service = await serve()
    await publish(service, "news", "kept")
    await redis.run("SAVE")
    lost = await publish(service, "news", "a", "b")
    redis.kill()
    await redis.start()
    await until_ready(service)
    new = await publish(service, "news", "c", "d")

    assert not {event_id.partition("-")[0] for event_id in new} & {lost[0].partition("-")[0]}
    assert await replay(await serve(), "news", lost[0]) == ["epoch"]


async def test_a_replica_is_left_for_the_new_primary(
    hasty: None, serve: Any, redis: RedisServer, tmp_path: Path
) -> None:
    """The address leads to the new primary; connections to the old one stay open."""
    async with RedisServer(tmp_path / "other") as other:
        await other.run("REPLICAOF", "127.0.0.1", redis.port)
        async with Proxy(redis) as proxy:
            service = await serve(realtime={"broker_url": proxy.url})
            async with following(service, "news") as follower:
                ids = await publish(service, "news", "a")
                await redis.run("WAIT", 1, 0)
                await other.run("REPLICAOF", "NO", "ONE")
                await redis.run("REPLICAOF", "127.0.0.1", other.port)
                proxy.redis = other

                async def has_a_link() -> bool:
                    return bool(await other.run("CLIENT", "LIST", "TYPE", "PUBSUB"))

                await until(has_a_link)
                await until_ready(service)
                ids += await publish(service, "news", "b")

                assert [(await follower.block())["id"] for _ in ids] == ids
                assert await replay(service, "news", ids[0]) == ["b"]


async def test_a_redis_whose_keys_were_deleted_by_hand_is_another_one(
    two: tuple[Service, Service], redis: RedisServer
) -> None:
    """Streams may remain whose numbers are higher than the new ones."""
    async with following(two[0], "news") as follower:
        await publish(two[1], "news", "a", "b", "c")
        assert await texts(follower, 3) == ["a", "b", "c"]
        await redis.run("DEL", f"{PREFIX}position")
        ids = await publish(two[1], "news", "d", "e")

        assert (await reset_of(follower), await texts(follower, 2)) == ("epoch", ["d", "e"])
        assert await replay(two[1], "news", ids[0]) == ["e"]


async def test_a_prefix_knows_its_topics_and_that_others_were_forgotten(
    serve: Any, redis: RedisServer
) -> None:
    service = await serve(realtime={"max_topics": 2})
    for topic in ("t.gone", "t.kept", "other"):
        [top] = await publish(service, topic, "a")
    history = await service.in_server(service.app.state.hub.backend.history("t.*"))

    assert {name: kept.floor for name, kept in history.items()} == {"t.*": 1, "t.kept": 0}
    start = top.replace("-3", "-0")
    await publish(service, "t.gone", "again")
    assert await replay(service, "t.gone", start) == ["evicted"]
    assert await replay(service, "t.*", start) == ["evicted"]


async def test_what_is_too_much_to_be_read_at_once_is_told_as_gone(
    serve: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_data, "READ_BYTES", 0)
    service = await serve(realtime={"history_bytes": 1000, "history_size": 1})
    start = await position_of(service, "other")
    for number in range(10):
        await publish(service, f"t.{number}", "x" * 400)

    assert await replay(service, "t.0", start) == ["x" * 400]
    assert await replay(service, "t.*", start) == ["evicted"]


async def test_a_full_redis_takes_no_events_and_gives_those_that_it_has(
    serve: Callable[..., Any], redis: RedisServer
) -> None:
    [kept] = await publish(await serve(), "news", "kept")
    await redis.run("CONFIG", "SET", "maxmemory", 1)
    service = await serve()
    async with service.client() as client:
        assert (await client.get("/health/ready")).json()["publishing"] == "down"
        for topic in ("news", "new"):
            response = await client.post(f"/topics/{topic}/events", content="a", headers=TEXT)
            assert response.status_code == 503

    assert await replay(service, "news,new", kept.replace("-1", "-0")) == ["kept"]
    assert not await redis.run("EXISTS", f"{PREFIX}topic:new")


async def test_the_events_of_a_newer_release_are_refused_and_not_touched(
    serve: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await serve()
    await publish(service, "news", "a")
    assert int(await redis.run("HGET", f"{PREFIX}position", "format")) == FORMAT
    await redis.run("HSET", f"{PREFIX}position", "format", FORMAT + 1)
    before = await redis.run("HGETALL", f"{PREFIX}position")
    async with service.client() as client:
        refused = await client.post("/topics/news/events", content=b"1", headers=JSON)
    with pytest.raises(SystemExit) as stopped:
        await redis_data.check_format(redis.url)

    assert refused.status_code == 503
    assert await redis.run("HGETALL", f"{PREFIX}position") == before
    [line] = str(stopped.value.code).splitlines()
    assert line.startswith("APP_REALTIME__BROKER_URL: ")
    assert f"(format {FORMAT + 1}, this one reads up to {FORMAT})" in line


async def test_a_start_without_redis_is_not_refused(stopped_redis: RedisServer) -> None:
    await redis_data.check_format(stopped_redis.url)  # Does not raise.
