"""Redis: several processes behave like one service."""

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel.kernel import Kernel
from {{cookiecutter.package_name}}.engine.realtime.backends.redis_pool import PREFIX
from {{cookiecutter.package_name}}.engine.realtime.hub import open_hub

from ..redis_server import RedisServer, redis, stopped_redis
from ..service import SOAK, Service, make_settings
from .poller import position_of, replay
from .redis import Proxy, following, texts, until
from .subscriber import TEXT, Subscriber, publish
from .test_history import (  # noqa: F401  (Again, on Redis.)
    test_a_repeated_publication_has_the_same_id_and_is_delivered_once,
    test_a_subscriber_of_a_forgotten_topic_still_gets_what_comes,
    test_a_topic_keeps_only_so_many_bytes,
    test_only_so_many_topics_are_kept_the_latest_ones,
    test_the_latest_events_are_kept,
    test_the_newest_event_is_kept_however_large,
)
from .test_selection import (  # noqa: F401
    test_a_gap_in_any_of_the_topics_is_told,
    test_a_gap_is_told_while_others_follow_the_same_topics,
    test_a_position_of_one_topic_serves_any_subscription,
    test_a_replay_merges_topics_in_the_order_of_publication,
    test_a_topic_of_a_prefix_that_was_forgotten_is_a_gap,
    test_a_topic_that_is_new_to_a_prefix_appears,
    test_several_topics_come_in_one_order_on_one_connection,
    test_what_another_topic_lost_is_no_gap,
)
from .test_topics import (  # noqa: F401
    test_a_client_that_comes_back_gets_what_it_missed,
    test_a_position_that_is_not_ours_is_told,
    test_every_subscriber_of_a_topic_gets_every_event_in_order,
    test_publishing_from_many_clients_at_once_keeps_one_order,
)

__all__ = ["redis", "stopped_redis"]


@pytest.fixture
def sections(sections: dict[str, dict[str, Any]], redis: RedisServer) -> dict[str, dict[str, Any]]:
    """The default settings, with Redis."""
    return {**sections, "realtime": {"broker_url": redis.url}}


def number_of(event_id: str) -> int:
    return int(event_id.partition("-")[2])


@pytest.mark.slow
async def test_every_subscriber_of_every_process_gets_every_event_in_one_order(
    serve: Any,
) -> None:
    count = 500 * SOAK
    services: list[Service] = [await serve(), await serve()]

    async def publish_some(publisher: int) -> list[str]:
        ids = []
        async with services[publisher % 2].client() as client:
            for n in range(count // 4):
                text, url = f"{publisher} {n}", f"/topics/t.{n % 5}/events"
                answer = await client.post(url, content=text, headers=TEXT)
                assert answer.status_code == 202, answer.text
                ids.append(answer.json()["id"])
        return ids

    async def ids_of(subscriber: Subscriber, number: int) -> list[str]:
        return [(await subscriber.block())["id"] for _ in range(number)]

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        everything = [await enter(following(service, "t.*")) for service in services]
        one_topic = [await enter(following(service, "t.3")) for service in services]
        async with asyncio.TaskGroup() as group:
            published = [group.create_task(publish_some(publisher)) for publisher in range(4)]
            all_seen = [group.create_task(ids_of(s, count)) for s in everything]
            seen = [group.create_task(ids_of(s, count // 5)) for s in one_topic]

    ids = sorted((one for task in published for one in task.result()), key=number_of)
    assert [number_of(one) for one in ids] == list(range(1, count + 1))
    assert [task.result() for task in all_seen] == [ids, ids]
    assert seen[0].result() == seen[1].result() == sorted(seen[0].result(), key=number_of)
    assert set(seen[0].result()) <= set(ids)


async def test_a_key_that_was_used_at_one_process_is_known_at_another(serve: Any) -> None:
    first, second = await serve(), await serve()
    async with first.client() as here, second.client() as there, following(first, "a") as follower:
        headers = TEXT | {"Idempotency-Key": "k"}
        answers = [
            await client.post("/topics/a/events", content=text, headers=headers)
            for client, text in ((here, "x"), (there, "x"), (there, "y"))
        ]
        [last] = await publish(second, "a", "z")

        assert [answer.status_code for answer in answers] == [202, 202, 422]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        ids = [(await follower.block())["id"] for _ in range(2)]
        assert ids == [answers[0].json()["id"], last]


@pytest.mark.parametrize("is_repeated", [False, True])
async def test_a_publication_whose_answer_was_lost_is_not_doubled(
    is_repeated: bool, serve: Any, redis: RedisServer
) -> None:
    async with Proxy(redis) as proxy:
        service = await serve(realtime={"broker_url": proxy.url})
        async with following(service, "news") as follower, service.client() as client:

            async def post(text: str) -> int:
                headers = TEXT | {"Idempotency-Key": text}
                response = await client.post("/topics/news/events", content=text, headers=headers)
                return int(response.status_code)

            await publish(service, "news", "first")
            proxy.losses = 1
            statuses = [await post("once") for _ in range(1 + is_repeated)]
            await publish(service, "news", "last")

            assert statuses == [503, 202][: 1 + is_repeated]
            assert await texts(follower, 3) == ["first", "once", "last"]


async def test_a_process_that_starts_later_knows_what_was_kept(serve: Any) -> None:
    first = await serve()
    ids = await publish(first, "news", "a", "b", "c")
    second = await serve()

    assert await replay(second, "news", ids[0]) == ["b", "c"]
    assert await replay(second, "news,other.*", ids[1]) == ["c"]
    assert await position_of(second, "other") == ids[2]


async def test_what_is_published_while_somebody_subscribes_does_not_fall_between(
    serve: Any, redis: RedisServer
) -> None:
    other = await serve()
    start = await position_of(other, "news")
    async with Proxy(redis) as proxy, asyncio.TaskGroup() as group:
        service = await serve(realtime={"broker_url": proxy.url})
        proxy.lets_through.clear()

        async def follow() -> list[str]:
            async with following(service, "news", f"Last-Event-ID: {start}") as follower:
                return await texts(follower, 1)

        seen = group.create_task(follow())
        await proxy.has_subscription.wait()
        await publish(other, "news", "a")
        proxy.lets_through.set()
        assert await seen == ["a"]


async def test_a_service_that_has_started_has_found_redis(redis: RedisServer) -> None:
    settings = make_settings(realtime={"broker_url": redis.url})
    async with open_hub(settings.realtime, Kernel(settings.streaming, settings)) as hub:
        assert hub.backend.up


async def test_a_position_that_only_another_process_has_heard_of_is_known(serve: Any) -> None:
    first, second = await serve(), await serve()
    async with following(second, "quiet"):
        [event_id] = await publish(first, "news", "a")
        assert await replay(second, "quiet", event_id) == []


async def test_topics_that_nobody_publishes_on_any_more_leave_nothing(
    redis: RedisServer, serve: Any
) -> None:
    service = await serve(realtime={"history_age": 0.001})
    start = await position_of(service, "other")
    async with following(service, "t.0") as follower:
        for number in range(10):
            await publish(service, f"t.{number}", "a")

        async def nothing_is_kept() -> bool:
            return not await redis.run("KEYS", "*:topic:*")

        await until(nothing_is_kept)
        for _ in range(4):
            await publish(service, "last", "a")
        known = await redis.run("ZRANGE", f"{PREFIX}topics", 0, -1)
        await publish(service, "t.0", "again")

        assert known == [b"last"]
        assert await replay(service, "t.5", start) == ["evicted"]
        # A subscriber that was connected all the time has missed nothing.
        assert [(await follower.block())["data"] for _ in range(2)] == ["a", "again"]


async def test_events_that_are_too_old_at_once_are_delivered_all_the_same(serve: Any) -> None:
    service = await serve(realtime={"history_age": 0.0001})
    async with following(service, "news") as follower:
        await publish(service, "news", "a", "b")
        assert await texts(follower, 2) == ["a", "b"]


async def test_a_topic_that_was_forgotten_is_no_gap_for_those_who_were_there(serve: Any) -> None:
    service = await serve(realtime={"max_topics": 1})
    async with following(service, "a") as follower, following(service, "c") as other:
        for topic in "abc":
            await publish(service, topic, topic)
        assert await texts(other, 1) == ["c"]
        await service.in_server(service.app.state.hub.backend._heal())
        await publish(service, "a", "again")
        assert await texts(follower, 2) == ["a", "again"]


async def test_old_events_go_and_newer_ones_stay(redis: RedisServer, serve: Any) -> None:
    service = await serve(realtime={"history_age": 3600})
    start = await position_of(service, "news")
    ids = await publish(service, "news", "a", "b")
    key = f"{PREFIX}topic:news"
    entries = await redis.run("XRANGE", key, "-", "+")
    entries[0][1][b"at"] = 0  # As if it had been published in 1970.
    await redis.run("DEL", key)
    for entry_id, fields in entries:
        await redis.run("XADD", key, entry_id, *chain(*fields.items()))
    await publish(service, "news", "c")

    later = await serve()
    assert await replay(later, "news", ids[0]) == ["b", "c"]
    assert await replay(later, "news", start) == ["evicted"]


async def test_databases_of_one_server_do_not_mix(redis: RedisServer, serve: Any) -> None:
    here = await serve()
    there = await serve(realtime={"broker_url": redis.url.removesuffix("0") + "1"})
    async with following(here, "news") as follower:
        await publish(there, "news", "theirs")
        await publish(here, "news", "ours")
        assert (await follower.block())["data"] == "ours"


async def test_all_of_a_message_arrives(serve: Any) -> None:
    first, second = await serve(), await serve()
    async with following(second, "news") as follower, first.client() as client:
        for content_type, body in (("text/plain", "ä\n€"), ("application/json", '"ä b"')):
            await client.post(
                "/topics/news/events?event=price&key=k",
                content=body.encode(),
                headers={"Content-Type": content_type},
            )
        text, value = await follower.block(), await follower.block()

    assert (text["event"], text["data"]) == ("price", "ä\n€")
    assert json.loads(value["data"]) == "ä b"


async def test_a_topic_that_nobody_follows_any_more_is_unsubscribed(
    redis: RedisServer, serve: Any
) -> None:
    service = await serve()
    async with following(service, "news"), following(service, "t.*"):
        channels = await redis.run("PUBSUB", "CHANNELS")
        patterns = await redis.run("PUBSUB", "NUMPAT")
    for _ in range(2):
        await service.ended("GET /topics/{topics}/events")
    for _ in range(3):
        await service.in_server(service.app.state.hub.tidy())

    async def all_gone() -> bool:
        return [await redis.run("PUBSUB", what) for what in ("CHANNELS", "NUMPAT")] == [[], 0]

    await until(all_gone)
    assert (channels, patterns) == ([f"{PREFIX}0:news".encode()], 1)


async def test_a_service_that_ends_leaves_no_connection(redis: RedisServer, tmp_path: Path) -> None:
    async with Service(
        storage={"url": f"file:{tmp_path / 'data'}"}, realtime={"broker_url": redis.url}
    ) as service:
        await publish(service, "news", "a")
        before = len((await redis.run("CLIENT", "LIST")).splitlines())

    async def is_alone() -> bool:
        return len((await redis.run("CLIENT", "LIST")).splitlines()) == 1

    assert before > 2
    await until(is_alone)
