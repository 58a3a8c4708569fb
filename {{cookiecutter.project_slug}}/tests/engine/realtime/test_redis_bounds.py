"""Redis bounds: the cost of a request, and the memory of the history."""

from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.realtime.backends.redis_pool import PREFIX

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import Service
from .poller import position_of, replay
from .redis import hasty, sections, two, until, until_ready
from .subscriber import TEXT, publish

__all__ = ["hasty", "redis", "sections", "stopped_redis", "two"]

#: Publishes on topics from one number to another, without a round trip for each.
PUBLISH = """
redis.call('HSETNX', KEYS[1], 'epoch', 'e')
for number = ARGV[2], ARGV[3] do
  local topic, top = 'q.t' .. number, redis.call('HINCRBY', KEYS[1], 'top', 1)
  redis.call('ZADD', KEYS[2], top, topic)
  redis.call('ZADD', KEYS[3], 0, topic)
  redis.call('XADD', ARGV[1] .. topic, top .. '-0', 'floor', 0, 'start', 0,
    'at', redis.call('TIME')[1] .. '000', 'message', '["x",null,false,null]')
end
"""
PLACE, TOPICS, NAMES = f"{PREFIX}position", f"{PREFIX}topics", f"{PREFIX}names"


async def publish_many(redis: RedisServer, first: int, last: int) -> None:
    await redis.run("EVAL", PUBLISH, 3, PLACE, TOPICS, NAMES, f"{PREFIX}topic:", first, last)


async def milliseconds(redis: RedisServer) -> float:
    """Return the time of commands since the last reset; those of scripts count twice."""
    stats = await redis.run("INFO", "commandstats")
    return float(sum(each["usec"] for each in stats.values()) / 1000)


async def slowest(redis: RedisServer) -> float:
    """Return the milliseconds of the longest command since the last reset."""
    entries = await redis.run("SLOWLOG", "GET", 1000)
    return max((entry[2] / 1000 for entry in entries), default=0.0)


async def watch(redis: RedisServer) -> None:
    """Reset the statistics, and log commands that take more than a millisecond."""
    await redis.run("CONFIG", "SET", "slowlog-max-len", 1000)
    await redis.run("CONFIG", "SET", "slowlog-log-slower-than", 1000)
    await redis.run("SLOWLOG", "RESET")
    await redis.run("CONFIG", "RESETSTAT")


def unknown_prefixes(request: int) -> str:
    return ",".join(f"u{request}-{number}.*" for number in range(32))


@pytest.mark.bound("4.10")
async def test_a_poll_of_prefixes_costs_redis_little_however_many_topics_there_are(
    redis: RedisServer, serve: Any
) -> None:
    await publish_many(redis, 1, 10_000)
    service = await serve()
    async with service.client() as client:
        await client.get("/topics/first.*/events?poll=0")
        await watch(redis)
        for request in range(4):
            polled = await client.get(f"/topics/{unknown_prefixes(request)}/events?poll=0")
            assert polled.status_code == 200

    assert await milliseconds(redis) < 4 * 50
    assert await slowest(redis) < 50


@pytest.mark.bound("4.11")
async def test_looking_for_what_was_missed_costs_redis_nothing_for_what_is_followed(
    redis: RedisServer, hasty: None, serve: Any
) -> None:
    await publish_many(redis, 1, 10_000)
    service = await serve()
    async with service.client() as client:
        for request in range(4):
            await client.get(f"/topics/{unknown_prefixes(request)}/events?poll=0")
    await watch(redis)

    async def has_looked() -> bool:
        stats = await redis.run("INFO", "commandstats")
        return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"]) > 2

    await until(has_looked)
    assert await slowest(redis) < 50


@pytest.mark.bound("4.12")
@pytest.mark.slow
async def test_the_history_of_a_prefix_of_many_topics_is_read_in_short_steps(
    redis: RedisServer, serve: Any
) -> None:
    await publish_many(redis, 1, 10_000)
    service = await serve()
    start = await position_of(service, "q.t1")
    await watch(redis)
    # More than is read at once, but none of it was missed.
    assert await replay(service, "q.*", start) == []
    assert await slowest(redis) < 20


@pytest.mark.bound("15.3")
async def test_only_the_newest_events_of_a_prefix_are_read_for_one_request(
    redis: RedisServer, serve: Any
) -> None:
    service = await serve()
    start = await position_of(service, "q.t0")
    await publish_many(redis, 1, 1500)
    recent = await position_of(service, "q.t0")
    await publish_many(redis, 1501, 1600)

    assert await replay(service, "q.*", start) == ["evicted"]
    assert await replay(service, "q.*", recent) == ["x"] * 100


@pytest.mark.bound("6.10")
async def test_all_topics_together_keep_only_so_many_bytes_in_redis(
    redis: RedisServer, serve: Any
) -> None:
    service = await serve(realtime={"history_total": 1 << 20})
    start = await position_of(service, "other")
    for number in range(60):
        [last] = await publish(service, f"t.{number}", "x" * 60_000)

    keys = await redis.run("KEYS", f"{PREFIX}*")
    used = sum([await redis.run("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys])
    assert used < 1.5 * (1 << 20)
    assert await replay(service, "t.*", start) == ["evicted"]
    assert await replay(service, "t.0", start) == ["evicted"]
    assert await replay(service, "t.59", last.replace("-60", "-59")) == ["x" * 60_000]


@pytest.mark.bound("6.11")
async def test_idempotency_keys_count_among_what_is_kept_in_redis(
    redis: RedisServer, serve: Any
) -> None:
    service = await serve(realtime={"history_total": 100_000})
    async with service.client() as client:

        async def post(key: int) -> str:
            headers = TEXT | {"Idempotency-Key": str(key)}
            return str((await client.post("/topics/a/events", content="x", headers=headers)).text)

        ids = [await post(key) for key in range(200)]
        assert len(await redis.run("KEYS", f"{PREFIX}once:*")) <= 100
        assert await post(199) == ids[199]


async def test_only_so_many_idempotency_keys_are_remembered(redis: RedisServer, serve: Any) -> None:
    service = await serve(realtime={"max_keys": 2})
    async with service.client() as client:
        for key in "abc":
            headers = TEXT | {"Idempotency-Key": key}
            await client.post("/topics/a/events", content="x", headers=headers)
    keys = await redis.run("KEYS", f"{PREFIX}once:*")
    assert sorted(key[-1:] for key in keys) == [b"b", b"c"]


@pytest.mark.bound("6.12")
async def test_readiness_reports_that_redis_accepts_no_events(
    redis: RedisServer, hasty: None, serve: Any
) -> None:
    service = await serve()
    await publish(service, "news", "a")
    async with service.client() as client:
        await redis.run("CONFIG", "SET", "maxmemory", 1)
        refused = await client.post("/topics/news/events", content="b", headers=TEXT)
        ready = await client.get("/health/ready")
        await redis.run("CONFIG", "SET", "maxmemory", 0)

        assert (refused.status_code, ready.status_code) == (503, 200)
        assert ready.json().items() >= {"broker": "up", "publishing": "down"}.items()
        assert refused.headers["content-type"] == "application/problem+json"
    await until_ready(service)
    await publish(service, "news", "b")


async def test_a_list_that_cannot_be_opened_leaves_what_it_had_opened_in_order(
    two: tuple[Service, Service], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    ids = await publish(other, "a.x", "1", "2")
    hub = one.app.state.hub
    history = hub.backend.history

    async def refuse(name: str) -> Any:
        if name == "b.*":
            raise Problem(503)
        return await history(name)

    monkeypatch.setattr(hub.backend, "history", refuse)
    async with one.client() as client:
        assert (await client.get("/topics/a.*,b.*/events?poll=0")).status_code == 503
        ids += await publish(other, "a.x", "3")
        ids += await publish(other, "a.y", "4")
        for _ in range(3):
            await one.in_server(hub.tidy())
            ids += await publish(other, "a.x", "more")
            assert await replay(one, "a.*", ids[0]) == ["2", "3", "4"] + ["more"] * (len(ids) - 4)


@pytest.mark.bound("4.13")
async def test_redis_passes_on_nothing_of_topics_that_could_not_be_opened(
    serve: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await serve()
    backend_of = service.app.state.hub.backend

    async def refuse(name: str) -> Any:
        raise Problem(503)

    monkeypatch.setattr(backend_of, "history", refuse)
    async with service.client() as client:
        for topics in ("a", "b.*", "c,d.*"):
            assert (await client.get(f"/topics/{topics}/events?poll=0")).status_code == 503

    async def is_left() -> bool:
        channels = await redis.run("PUBSUB", "CHANNELS")
        return not channels and await redis.run("PUBSUB", "NUMPAT") == 0

    await until(is_left)
