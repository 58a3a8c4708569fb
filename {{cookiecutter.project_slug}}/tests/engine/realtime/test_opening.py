"""Events that are published while a topic is being opened, and late replies of brokers."""

from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime.hub import Hub
from {{cookiecutter.package_name}}.engine.realtime.messages import Message
from {{cookiecutter.package_name}}.engine.realtime.ring import Event
from {{cookiecutter.package_name}}.engine.realtime.subscription import Subscription
from {{cookiecutter.package_name}}.engine.realtime.topics import Position

from ..service import Service


def data_of(subscription: Subscription) -> list[str]:
    """Return the next items of a subscriber: the reason of a gap, and data."""
    reset, events = subscription.take()
    reasons = [] if reset is None else [reset.reason]
    return reasons + [event.message.data for event in events]


async def publish(hub: Hub, topic: str, *texts: str) -> list[str]:
    return [await hub.publish(topic, Message(text)) for text in texts]


async def test_an_event_that_is_on_its_way_reaches_both_old_and_new_followers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Hub = service.app.state.hub
    on_its_way: list[Event] = []
    deliver = hub.deliver

    def hold_back(event: Event) -> bool:
        on_its_way.append(event)
        return True

    async def follow_while_one_is_on_its_way() -> list[list[str]]:
        [start] = await publish(hub, "other", "0")
        by_prefix = await hub.subscribe(("run.*",))
        monkeypatch.setattr(hub, "deliver", hold_back)
        await publish(hub, "run.1", "1")  # The broker has it already.
        by_name = await hub.subscribe(("run.1",), start)
        monkeypatch.setattr(hub, "deliver", deliver)
        deliver(on_its_way[0])
        deliver(on_its_way[0])
        return [data_of(subscription) for subscription in (by_prefix, by_name)]

    told = await service.in_server(follow_while_one_is_on_its_way())
    assert told == [["1"], ["1"]]


@pytest.mark.parametrize("names", [("run.1",), ("run.*",), ("other", "run.1", "run.2.*")])
async def test_an_event_that_comes_while_a_topic_is_opened_is_no_gap(
    service: Service, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    hub: Hub = service.app.state.hub
    history = hub.backend.history

    async def read_late(name: str) -> Any:
        await publish(hub, "run.1", f"while {name} is opened")
        return await history(name)

    async def follow() -> list[str]:
        start, *_ = await publish(hub, "run.1", "0", "1", "2")
        monkeypatch.setattr(hub.backend, "history", read_late)
        return data_of(await hub.subscribe(names, start))

    meanwhile = [f"while {name} is opened" for name in names]
    assert await service.in_server(follow()) == ["1", "2", *meanwhile]


async def test_a_topic_that_is_let_go_while_the_broker_is_asked_is_followed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Hub = service.app.state.hub

    async def top() -> Position:
        for _ in range(2):
            await hub.tidy()
        return Position(hub.epoch, hub.top)

    async def follow() -> list[str]:
        (await hub.subscribe(("news",))).close()
        monkeypatch.setattr(hub.backend, "top", top)
        subscription = await hub.subscribe(("news",), "0-1")
        await publish(hub, "news", "a")
        return data_of(subscription)

    assert await service.in_server(follow()) == ["epoch", "a"]


async def test_who_brings_the_news_of_another_epoch_follows_that_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub: Hub = service.app.state.hub

    async def top() -> Position:
        return Position("after", 3)

    async def follow() -> list[str]:
        (await hub.subscribe(("news",))).close()
        await publish(hub, "news", *map(str, range(10)))
        monkeypatch.setattr(hub.backend, "top", top)
        subscription = await hub.subscribe(("news",), "0-1")
        await publish(hub, "news", "a")
        return [subscription.event_id, *data_of(subscription)]

    assert await service.in_server(follow()) == ["after-3", "epoch", "a"]
