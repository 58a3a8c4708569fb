"""Redis under faults: every missed event is delivered later or reported."""

import asyncio
import json
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.realtime.backends import redis as backend

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import SOAK, Service, ServiceProcess
from .poller import replay
from .redis import following, hasty, reset_of, sections, texts, two, until, until_ready
from .subscriber import TEXT, Subscriber, publish

__all__ = ["hasty", "redis", "sections", "stopped_redis", "two"]


@pytest.mark.slow
async def test_clients_of_a_killed_process_go_on_at_another(
    redis: RedisServer, tmp_path: Path
) -> None:
    count = 100 * SOAK
    settings = {"REALTIME__BROKER_URL": redis.url}
    async with (
        ServiceProcess(tmp_path, **settings, STORAGE__URL="file:a") as one,
        ServiceProcess(tmp_path, **settings, STORAGE__URL="file:b") as two,
    ):
        killed = asyncio.Event()

        async def publish_all() -> None:
            async with two.client() as client:
                for n in range(count):
                    await client.post("/topics/t/events", content=str(n), headers=TEXT)
                    if n == count // 2:
                        one.kill()
                        killed.set()

        async def read_all() -> list[str]:
            seen, last = [], ""
            async with following(one, "t.*,t") as subscriber:
                ready.release()
                try:
                    while True:
                        block = await subscriber.block()
                        last = block["id"]
                        seen.append(json.loads(block["data"])["data"])
                except (EOFError, ConnectionError):
                    await killed.wait()
            async with following(two, "t.*,t", f"Last-Event-ID: {last}") as subscriber:
                while len(seen) < count:
                    seen.append(json.loads((await subscriber.block())["data"])["data"])
            return seen

        ready = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read_all()) for _ in range(5)]
            for _ in readers:
                await ready.acquire()
            group.create_task(publish_all())

    expected = [str(n) for n in range(count)]
    assert [reader.result() for reader in readers] == [expected] * 5


async def test_nothing_is_lost_when_redis_starts_again_with_its_data(
    two: tuple[Service, Service], redis: RedisServer
) -> None:
    one, other = two
    async with following(one, "t.*") as everything, following(other, "t.a") as topic:
        ids = await publish(one, "t.a", "1", "2")
        await redis.stop()
        await redis.start()
        for service in two:
            await until_ready(service)
        ids += await publish(other, "t.a", "3", "4")

        for subscriber in (everything, topic):
            assert [(await subscriber.block())["id"] for _ in range(4)] == ids
        assert await replay(one, "t.a", ids[0]) == ["2", "3", "4"]


async def test_what_was_missed_while_a_link_was_broken_comes_when_it_is_there_again(
    serve: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve()
    published = threading.Event()
    join = backend.RedisBackend._join

    async def join_later(self: backend.RedisBackend) -> None:
        await asyncio.to_thread(published.wait)
        await join(self)

    monkeypatch.setattr(backend.RedisBackend, "_join", join_later)
    async with following(service, "x") as follower, following(service, "x,y.*") as several:
        await redis.run("CLIENT", "KILL", "TYPE", "pubsub")
        await until_ready(service, 503)
        ids = [*await publish(service, "x", "a"), *await publish(service, "y.new", "b")]
        ids += await publish(service, "x", "c")
        published.set()

        assert [(await several.block())["id"] for _ in range(3)] == ids
        assert await texts(follower, 2) == ["a", "c"]


@pytest.mark.slow
async def test_nothing_is_lost_while_links_break(two: tuple[Service, Service], hasty: None) -> None:
    count = 100 * SOAK
    one, other = two
    redis_of = one.app.state.hub.backend._redis

    async def publish_all(topic: str) -> None:
        for n in range(count):
            await publish(other, topic, str(n))
            if n % 20 == 10:
                await one.in_server(redis_of.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))

    async def read(n: int, subscriber: Subscriber) -> list[dict[str, str]]:
        return [await subscriber.block() for _ in range(count * (1 + (n % 3 == 2)))]

    async with AsyncExitStack() as stack:
        subscribers = [
            await stack.enter_async_context(following(service, name))
            for service in two
            for name in ("t.a", "t.b", "t.*")
        ]
        async with asyncio.TaskGroup() as group:
            for topic in ("t.a", "t.b"):
                group.create_task(publish_all(topic))
            readers = [group.create_task(read(*each)) for each in enumerate(subscribers)]

    seen = [reader.result() for reader in readers]
    numbers = [[int(b["id"].partition("-")[2]) for b in blocks] for blocks in seen]
    assert all("event" not in block for blocks in seen for block in blocks)
    assert numbers[:3] == numbers[3:]
    assert numbers[2] == sorted(numbers[0] + numbers[1]) == list(range(1, 2 * count + 1))


async def test_a_service_starts_without_redis_and_works_when_that_is_there(
    hasty: None, stopped_redis: RedisServer, serve: Any
) -> None:
    service = await serve()
    async with service.client() as client:
        assert (await client.get("/health/live")).status_code == 200
        ready = await client.get("/health/ready")
        published = await client.post("/topics/news/events", content="a", headers=TEXT)
        followed = await client.get("/topics/news/events")
        assert [r.status_code for r in (ready, published, followed)] == [503, 503, 503]
        assert int(published.headers["retry-after"]) >= 1
        assert int(followed.headers["retry-after"]) >= 1

    await stopped_redis.start()
    await until_ready(service)
    async with following(service, "news") as follower:
        await publish(service, "news", "a")
        assert await texts(follower, 1) == ["a"]


async def test_subscribers_stay_while_redis_is_silent_and_get_what_they_missed(
    hasty: None, serve: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "CHECK_SECONDS", 3600)  # Only probes detect it.
    one, other = await serve(), await serve()
    async with following(one, "news") as follower, one.client() as client:
        redis.freeze()
        for service in (one, other):
            await until_ready(service, 503)
        response = await client.get("/topics/other/events")
        redis.thaw()
        await until_ready(other)
        await publish(other, "news", "a")

        assert response.status_code == 503
        assert await texts(follower, 1) == ["a"]


@pytest.mark.slow
async def test_a_quiet_link_is_kept_while_it_answers(
    hasty: None, serve: Any, redis: RedisServer
) -> None:
    async def links() -> set[bytes]:
        clients = await redis.run("CLIENT", "LIST", "TYPE", "PUBSUB")
        return {line.split()[0] for line in clients.splitlines()}

    async def number_of_probes() -> int:
        return int((await redis.run("INFO", "commandstats"))["cmdstat_punsubscribe"]["calls"])

    async with following(await serve(), "news"):
        [link], before = await links(), await number_of_probes()

        async def was_tried() -> bool:
            return await number_of_probes() > before + 3

        await until(was_tried)
        assert await links() == {link}


async def test_a_broken_link_does_not_come_back_unnoticed(serve: Any, redis: RedisServer) -> None:
    service = await serve()

    async def subscribe_on_a_broken_one() -> None:
        of = service.app.state.hub.backend
        await of._link.disconnect(nowait=True)
        await of.subscribe("news")

    with pytest.raises(Problem):
        await service.in_server(subscribe_on_a_broken_one())


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The texts of events that are lost once on their way from Redis."""
    texts: set[str] = set()
    take = backend.RedisBackend._take

    async def lose(self: backend.RedisBackend, reply: Any) -> None:
        found = {text for text in texts if f'["{text}"' in str(reply[-1])}
        texts.difference_update(found)
        if not found:
            await take(self, reply)

    monkeypatch.setattr(backend.RedisBackend, "_take", lose)
    return texts


async def test_an_event_that_did_not_arrive_is_fetched_when_the_next_one_does(
    serve: Any, redis: RedisServer, lost: set[str]
) -> None:
    service = await serve()
    async with following(service, "news") as follower:
        lost |= {"b", "c"}
        await publish(service, "news", *"abcde")
        assert await texts(follower, 5) == [*"abcde"]


async def test_an_event_that_did_not_arrive_is_fetched_also_when_it_was_the_last(
    hasty: None, serve: Any, redis: RedisServer, lost: set[str]
) -> None:
    service = await serve()
    async with following(service, "news") as follower, following(service, "n.*") as prefix:
        lost |= {"b", "c"}
        await publish(service, "news", "a", "b")
        assert await texts(follower, 2) == ["a", "b"]
        await publish(service, "n.new", "c")
        assert json.loads((await prefix.block())["data"])["data"] == "c"


async def test_an_event_that_did_not_arrive_and_is_gone_is_told(
    serve: Any, redis: RedisServer, lost: set[str]
) -> None:
    service = await serve(realtime={"history_size": 1})
    async with following(service, "news") as follower:
        lost |= {"b", "c"}
        await publish(service, "news", *"abcd")
        assert await texts(follower, 1) == ["a"]
        assert await reset_of(follower) == "evicted"
        await publish(service, "news", "e")
        assert await texts(follower, 1) == ["e"]


async def test_what_would_come_behind_newer_events_of_other_topics_is_told_as_a_gap(
    serve: Any, redis: RedisServer, lost: set[str]
) -> None:
    service = await serve()
    async with following(service, "x,y") as follower:
        lost |= {"b"}
        await publish(service, "x", "a", "b")
        await publish(service, "y", "c")
        await publish(service, "x", "d")
        seen = [json.loads((await follower.block())["data"])["data"] for _ in range(2)]
        assert seen == ["a", "c"]
        assert await reset_of(follower) == "evicted"
