"""Runs whose stop, log or broker does something at the worst moment."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import Message, RunRouter, RunsDep, RunStream
from {{cookiecutter.package_name}}.engine.realtime.runs.log import END, EVENTS, STOP

from ..service import Service
from .runs import Script, follow, start
from .test_runs_log import Once, Talk

LATE = "?last_event_id="


@pytest.fixture
def script() -> Script:
    return Script()


async def test_a_client_whose_events_are_gone_gets_the_rest_of_a_log_that_is_not_kept(
    serve: Callable[..., Any], script: Script
) -> None:
    both = RunRouter()
    both.include_router(script.router)
    both.include_router(Talk().router)
    service = await serve(both, realtime={"history_size": 5})
    run_id = await start(service)
    await script.say(service, "first")
    runs = service.app.state.runs
    async with asyncio.timeout(5):
        while not len(ring := await service.in_server(runs.hub.kept(EVENTS + run_id))) > 1:
            await asyncio.sleep(0)
    first = ring.after(ring.last - 1)[0].id
    await script.say(service, *"abcdefgh", None)
    async with asyncio.timeout(5):
        while runs.count():
            await asyncio.sleep(0)
    blocks = await follow(service, run_id, f"{LATE}{first}")

    assert [block.get("event") for block in blocks] == ["reset", *[None] * 4, "end"]


async def test_a_stop_before_the_first_step_of_a_run_ends_it(
    serve: Callable[..., Any], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(script.router)
    hub = service.app.state.hub
    publish = hub.publish

    async def stopped_at_once(topic: str, message: Message, once: Any = None) -> str:
        published: str = await publish(topic, message, once)
        if topic.startswith(EVENTS) and message.event == "(begin)":
            await publish(STOP + topic.removeprefix(EVENTS), Message(""))
        return published

    monkeypatch.setattr(hub, "publish", stopped_at_once)
    run_id = await start(service)
    async with asyncio.timeout(5):
        blocks = await follow(service, run_id)

    assert [block["data"] for block in blocks] == ['{"status":"stopped"}']
    assert service.app.state.runs.count() == 0


async def test_a_generator_that_ignores_the_stop_is_closed(serve: Callable[..., Any]) -> None:
    router = RunRouter(prefix="/runs")

    @router.run("/stubborn")
    async def stubborn() -> AsyncGenerator[str]:
        while True:
            try:
                yield "x"
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield "y"

    service = await serve(router)
    run_id = await start(service, "stubborn")
    async with service.client() as client:
        await client.post(f"/runs/{run_id}/stop")
    async with asyncio.timeout(5):
        blocks = await follow(service, run_id)

    assert blocks[-1]["data"] == '{"status":"stopped"}'


async def test_the_end_is_the_last_event_for_all_readers(serve: Callable[..., Any]) -> None:
    talk = Talk()
    service = await serve(talk.router)
    runs = service.app.state.runs
    run_id = await start(service, "talk")
    await talk.say(service, "a", None)
    await follow(service, run_id)
    # Published by a process that was suspended, and has not heard yet that it was lost.
    await service.in_server(runs.hub.publish(EVENTS + run_id, Message("late")))
    async with asyncio.timeout(5):
        messages, end = await service.in_server(runs.result(run_id))
        blocks = await follow(service, run_id)

    assert ([each.data for each in messages], end.message.event) == (["a"], END)
    assert [block["data"] for block in blocks[:-1]] == ["a"]
