"""A Redis that delivers events and accepts none, and users and URLs that it does not accept."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import (
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from {{cookiecutter.package_name}}.engine.realtime.backends import (
    redis_data,
    redis_pool,
)
from {{cookiecutter.package_name}}.engine.realtime.backends.redis_pool import (
    PREFIX,
    refusal_of,
)

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import Service, ServiceProcess
from .poller import position_of, replay
from .redis import Proxy, following, hasty, sections, texts, until, until_ready
from .subscriber import TEXT, publish

__all__ = ["hasty", "redis", "sections", "stopped_redis"]

RULES = f"on >pw ~{PREFIX}* allchannels +@all -@dangerous"


async def fail_to_save(redis: RedisServer) -> None:
    await redis.run("CONFIG", "SET", "save", "3600 1")
    shutil.rmtree(redis.dump.parent)
    await redis.run("BGSAVE")

    async def has_failed() -> bool:
        return bool((await redis.run("INFO", "persistence"))["rdb_last_bgsave_status"] == "err")

    await until(has_failed)


#: By the code of the refusal: how Redis begins to refuse writes, and the command that ends it.
REFUSALS: dict[str, tuple[Callable[[RedisServer], Awaitable[Any]], str]] = {
    "MISCONF": (fail_to_save, "CONFIG SET stop-writes-on-bgsave-error no"),
    "NOREPLICAS": (
        lambda redis: redis.run("CONFIG", "SET", "min-replicas-to-write", 1),
        "CONFIG SET min-replicas-to-write 0",
    ),
    "OOM": (
        lambda redis: redis.run("CONFIG", "SET", "maxmemory", 1),
        "CONFIG SET maxmemory 0",
    ),
    "READONLY": (lambda redis: redis.run("REPLICAOF", "127.0.0.1", 1), "REPLICAOF NO ONE"),
}


async def health(service: Service) -> tuple[int, str, str]:
    """Return the status of the readiness check, and the states of following and publishing."""
    async with service.client() as client:
        response = await client.get("/health/ready")
    states = response.json()
    return response.status_code, states["broker"], states["publishing"]


async def post(service: Service, topic: str, text: str, **headers: str) -> Any:
    async with service.client() as client:
        headers = {**TEXT, **headers}
        return await client.post(f"/topics/{topic}/events", content=text, headers=headers)


async def links(redis: RedisServer) -> set[bytes]:
    clients = await redis.run("CLIENT", "LIST", "TYPE", "PUBSUB")
    return {line.split()[0] for line in clients.splitlines()}


async def until_published(service: Service, text: str) -> None:
    async def is_published() -> bool:
        return bool((await post(service, "news", text)).status_code == 202)

    await until(is_published)


@pytest.mark.fault("G28")
@pytest.mark.parametrize("code", REFUSALS)
async def test_events_are_followed_while_redis_refuses_writes(
    code: str, hasty: None, redis: RedisServer, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    begin, end = REFUSALS[code]
    service = await serve()
    start = await position_of(service, "news")
    await publish(service, "news", "a")
    async with following(service, "news") as follower:
        before = await links(redis)
        await begin(redis)

        async def is_noticed() -> bool:  # Without an event, by a check.
            return await health(service) == (200, "up", "down")

        await until(is_noticed)
        refused = await post(service, "news", "b")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        for each in (service, await serve()):
            for topics in ("news", "n.*,news", "other,news"):
                assert await replay(each, topics, start) == ["a"]
            assert await health(each) == (200, "up", "down")
        # The other service has a link of its own.
        assert before < await links(redis)

        await redis.run(*end.split())
        await until_published(service, "b")
        assert await texts(follower, 1) == ["b"]
    assert f"Redis refuses events ({code})" in caplog.text


@pytest.mark.fault("G28")
@pytest.mark.parametrize("code", REFUSALS)
async def test_an_empty_redis_that_refuses_writes_is_followed(
    code: str, hasty: None, redis: RedisServer, serve: Any
) -> None:
    begin, end = REFUSALS[code]
    await begin(redis)
    service = await serve()
    assert await health(service) == (200, "up", "down")
    assert (await post(service, "news", "a")).status_code == 503
    async with following(service, "news") as follower, following(service, "x,n.*") as several:
        await redis.run(*end.split())
        await until_published(service, "a")
        assert await texts(follower, 1) == ["a"]
        await publish(service, "x", "b")
        assert "b" in (await several.block())["data"]


@pytest.mark.fault("G28")
async def test_events_of_the_primary_are_followed_at_a_replica(
    redis: RedisServer, serve: Any, tmp_path: Path
) -> None:
    primary = await serve()
    start = await position_of(primary, "news")
    async with RedisServer(tmp_path / "replica") as replica:
        await publish(primary, "news", "a")
        await replica.run("REPLICAOF", "127.0.0.1", redis.port)

        async def is_replicated() -> bool:
            return bool(await replica.run("EXISTS", f"{PREFIX}topic:news"))

        await until(is_replicated)
        service = await serve(realtime={"broker_url": replica.url})
        async with (
            following(service, "news") as follower,
            following(service, "n.*,news", f"Last-Event-ID: {start}") as other,
        ):
            [last] = await publish(primary, "news", "b")
            assert await texts(follower, 1) == ["b"]
            assert [(await other.block())["id"] for _ in range(2)][1] == last
        assert await health(service) == (200, "up", "down")
        assert (await post(service, "news", "c")).status_code == 503


SCRIPT_OF_6 = "Error running script (call to f_1a): @user_script:9: @user_script: 9: -{} refused"
PIPELINE = "Command # 2 (SET a OOM) of pipeline caused error: {} refused"


@pytest.mark.fault("G28")
@pytest.mark.parametrize("code", ["MISCONF", "NOREPLICAS", "READONLY", "OOM"])
@pytest.mark.parametrize(
    "text", ["{} refused", SCRIPT_OF_6, PIPELINE, "Transaction discarded because of: {} refused"]
)
def test_all_refusals_of_writes_are_recognised(code: str, text: str) -> None:
    kind = ExecAbortError if text.startswith("Trans") else ResponseError
    assert refusal_of(kind(text.format(code))) == code


@pytest.mark.fault("G28")
def test_other_errors_are_no_refusals_of_writes() -> None:
    assert refusal_of(ReadOnlyError("You can't write against a read only replica.")) == "READONLY"
    assert refusal_of(OutOfMemoryError("command not allowed")) == "OOM"
    assert refusal_of(NoPermissionError("no permissions to run 'xadd'")) == "NOPERM"
    for text in ("WRONGTYPE of a value", "ERR unknown", PIPELINE.format("WRONGTYPE"), "OOMPH x"):
        assert refusal_of(ResponseError(text)) == ""
    assert refusal_of(ConnectionError("READONLY is not a reply")) == ""


@pytest.mark.fault("G28")
async def test_one_key_of_another_type_is_no_refusal_of_all_writes(
    redis: RedisServer, serve: Any
) -> None:
    service = await serve()
    await publish(service, "news", "a")
    await redis.run("DEL", f"{PREFIX}topic:news")
    await redis.run("SET", f"{PREFIX}topic:news", "x")

    assert (await post(service, "news", "b")).status_code == 503
    assert await health(service) == (200, "up", "up")
    await publish(service, "other", "a")


@pytest.mark.fault("G28")
@pytest.mark.parametrize(
    "option",
    [
        *("protocol=3", "decode_responses=true", "socket_timeout=0.0001", "timeout=0.0001"),
        *("health_check_interval=1", "client_name=me", "retry_on_timeout=1", "max_connections=1"),
    ],
)
async def test_an_option_of_the_url_changes_no_behaviour(
    option: str, redis: RedisServer, serve: Any
) -> None:
    service = await serve(realtime={"broker_url": f"{redis.url}?{option}"})
    await redis_data.check_format(f"{redis.url}?{option}")
    start = await position_of(service, "news")
    async with following(service, "news") as follower:
        await publish(service, "news", "a")
        assert await texts(follower, 1) == ["a"]
    assert await replay(service, "n.*,news", start) == ["a"]
    assert (await health(service))[0] == 200


@pytest.mark.fault("G28")
@pytest.mark.parametrize(
    "rest",
    [
        *("?colour=red", "?connection_class=x", "?encoder_class=x", "?host=other", "?db=x"),
        *("?client_name=a%20b", "?ssl_ca_certs=x", "/0?single_connection_client=1"),
        ":port",
    ],
)
async def test_an_unusable_url_is_refused_in_one_line(rest: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        await redis_data.check_format(f"redis://:secret@127.0.0.1{rest}")

    [line] = str(stopped.value.code).splitlines()
    assert line.startswith("APP_REALTIME__BROKER_URL: ")
    assert "secret" not in line
    if "colour" in rest:
        assert "'colour'" in line


@pytest.mark.fault("G28")
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
async def test_an_idle_connection_that_was_dropped_silently_is_replaced(
    headers: dict[str, str], redis: RedisServer, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pool, "COMMAND_SECONDS", 1.0)
    monkeypatch.setattr(redis_pool, "IDLE_SECONDS", 0.0)
    async with Proxy(redis) as proxy:
        service = await serve(realtime={"broker_url": proxy.url})
        start = await position_of(service, "news")
        await publish(service, "news", "a")
        proxy.dropped = proxy.connections
        assert (await post(service, "news", "b", **headers)).status_code == 202
        proxy.dropped = proxy.connections
        assert await redis.run("XLEN", f"{PREFIX}topic:news") == 2

        direct = await serve()
        assert await replay(direct, "news", start) == ["a", "b"]


@pytest.mark.fault("G28")
async def test_only_what_cannot_publish_twice_is_repeated(
    redis: RedisServer, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_pool, "COMMAND_SECONDS", 1.0)
    monkeypatch.setattr(redis_pool, "IDLE_SECONDS", 60.0)
    async with Proxy(redis) as proxy:
        service: Service = await serve(realtime={"broker_url": proxy.url})
        backend = service.app.state.hub.backend
        await publish(service, "news", "a")
        proxy.dropped = proxy.connections
        assert (await post(service, "news", "b", **{"Idempotency-Key": "k"})).status_code == 202
        proxy.dropped = proxy.connections
        assert (await service.in_server(backend.top())).sequence == 2
        proxy.dropped = proxy.connections
        assert (await post(service, "news", "c")).status_code == 503
        assert (await post(service, "news", "d")).status_code == 202
        assert await redis.run("XLEN", f"{PREFIX}topic:news") == 3


@pytest.mark.fault("G28")
@pytest.mark.parametrize("key", ["position", "topics", "names", "topic:t.a"])
@pytest.mark.parametrize("topics", ["t.a", "t.*"])
async def test_an_evicted_key_is_a_gap_for_readers(
    key: str, topics: str, redis: RedisServer, serve: Any
) -> None:
    service = await serve()
    start = await position_of(service, "other")
    *_, before = await publish(service, "t.a", "1", "2")
    await redis.run("DEL", PREFIX + key)
    reasons = [await replay(await serve(), topics, start)]
    [after] = await publish(service, "t.a", "3")
    reasons += [await replay(await serve(), topics, position) for position in (start, before)]

    told = ["epoch"] if key == "position" else ["evicted"]
    assert reasons[:2] == [told, told]
    # The last event of the client may be the newest one.
    assert reasons[2] in ([told, ["3"]] if key != "position" else [told])
    epoch, number = before.split("-")
    assert after.split("-")[0] != epoch or int(after.split("-")[1]) > int(number)


@pytest.mark.fault("G28")
@pytest.mark.parametrize("key", ["topics", "names"])
async def test_live_subscribers_do_not_notice_an_evicted_index(
    key: str, hasty: None, redis: RedisServer, serve: Any
) -> None:
    service = await serve()
    async with following(service, "t.a") as one, following(service, "t.*") as all_of_them:
        await publish(service, "t.a", "1", "2")
        await redis.run("DEL", PREFIX + key)
        await publish(service, "t.a", "3")
        assert await texts(one, 3) == ["1", "2", "3"]
        assert "3" in [await all_of_them.block() for _ in range(3)][-1]["data"]


async def user(redis: RedisServer, rules: str) -> str:
    """Create a user, and return the URL with it."""
    await redis.run("ACL", "SETUSER", "app", *rules.split())
    return redis.url.replace("redis://", "redis://app:pw@")


@pytest.mark.fault("G42")
async def test_the_documented_permissions_are_enough(redis: RedisServer, serve: Any) -> None:
    url = await user(redis, RULES)
    await redis_data.check_format(url)
    service = await serve(realtime={"broker_url": url})
    start = await position_of(service, "news")
    async with following(service, "n.*,news") as follower:
        headers = {"Idempotency-Key": "k"}
        assert (await post(service, "news", "a", **headers)).status_code == 202
        assert "a" in (await follower.block())["data"]
    assert await replay(service, "news,m.*", start) == ["a"]
    assert await health(service) == (200, "up", "up")


@pytest.mark.fault("G42")
@pytest.mark.parametrize("rules", ["-@scripting", "-evalsha", "-hget", "resetkeys", ">other <pw"])
async def test_a_user_without_permission_to_read_is_refused_at_the_start(
    rules: str, redis: RedisServer
) -> None:
    url = await user(redis, f"{RULES} {rules}")
    with pytest.raises(SystemExit) as stopped:
        await redis_data.check_format(url)

    [line] = str(stopped.value.code).splitlines()
    assert line.startswith("APP_REALTIME__BROKER_URL: Redis refuses the user: ")


@pytest.mark.fault("G42")
@pytest.mark.parametrize(
    "rules",
    ["-evalsha", "-subscribe", "-psubscribe", "resetchannels", "-zrangebylex", "-zmscore"],
)
async def test_a_service_that_cannot_follow_is_not_ready(
    rules: str, hasty: None, redis: RedisServer, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = await user(redis, f"{RULES} {rules}")
    service = await serve(realtime={"broker_url": url})
    assert (await health(service))[:2] == (503, "down")
    assert "No link to Redis: " in caplog.text
    assert "permission" in caplog.text

    await redis.run("ACL", "SETUSER", "app", *RULES.split())
    await until_ready(service)


@pytest.mark.fault("G42")
@pytest.mark.parametrize("rules", ["-xadd", "-publish", "-set", "-pexpire", "-zadd"])
async def test_a_service_that_cannot_publish_is_ready_and_reports_it(
    rules: str, hasty: None, redis: RedisServer, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(await serve(), "news", "a")
    url = await user(redis, f"{RULES} {rules}")
    await redis_data.check_format(url)
    service = await serve(realtime={"broker_url": url})
    assert await health(service) == (200, "up", "down")
    assert "Redis refuses events (" in caplog.text
    async with service.client() as client:
        assert 'checks_failing{check="publishing"} 1' in (await client.get("/metrics")).text

    await redis.run("ACL", "SETUSER", "app", *RULES.split())

    async def is_well() -> bool:
        return await health(service) == (200, "up", "up")

    await until(is_well)


@pytest.mark.fault("G42")
@pytest.mark.slow
async def test_the_command_ends_with_one_line_for_a_refused_user(
    redis: RedisServer, tmp_path: Path
) -> None:
    url = await user(redis, f"{RULES} -@scripting")
    with pytest.raises(AssertionError, match="Redis refuses the user"):
        async with ServiceProcess(tmp_path, REALTIME__BROKER_URL=url):
            pass
