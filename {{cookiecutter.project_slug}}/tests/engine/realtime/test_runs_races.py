"""Runs whose stop, log or broker does something at the worst moment."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import Message, RunRouter
from {{cookiecutter.package_name}}.engine.realtime.runs.log import END, EVENTS, STOP

from ..service import Service
from .runs import Script, follow, start
from .test_runs_log import Talk

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


async def test_a_key_that_the_broker_has_lost_starts_no_second_run(
    serve: Callable[..., Any], script: Script
) -> None:
    service = await serve(script.router)
    hub, headers = service.app.state.hub, {"Idempotency-Key": "a"}
    async with service.client() as client:
        first = await client.post("/runs/script", headers=headers)
        # Evicted, as the run was silent for a long time while others were not.
        hub.backend._published.clear()
        await service.call(lambda: hub._store.drop(EVENTS + first.json()["id"]))
        second = await client.post("/runs/script", headers=headers)

    assert [each.status_code for each in (first, second)] == [201, 200]
    assert service.app.state.runs.count() == 1


async def test_a_run_whose_client_must_authenticate_again_is_stopped(
    serve: Callable[..., Any],
) -> None:
    talk = Talk()
    service = await serve(talk.router)
    async with service.raw_connection() as peer:
        await peer.send(b"POST /runs/once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await peer.read_head()
        run_id = await service.in_server(service.app.state.runs.active("", "once"))
        await service.call(lambda: [each.expire() for each in service.app.state.kernel.channels])
        await peer.read_until(b"0\r\n\r\n")
    blocks = await follow(service, run_id)

    assert blocks[-1]["data"] == '{"status":"stopped"}'
