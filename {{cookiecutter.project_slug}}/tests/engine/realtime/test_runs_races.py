"""Runs whose stop, log or broker does something at the worst moment."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from random import Random
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import Message, RunRouter
from {{cookiecutter.package_name}}.engine.realtime.runs.log import EVENTS, STOP

from ..peer import PATIENCE
from .runs import Follower, Script, follow, start
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
    async with asyncio.timeout(PATIENCE):
        while not len(ring := await service.in_server(runs.hub.kept(EVENTS + run_id))) > 1:
            await asyncio.sleep(0)
    first = ring.after(ring.last - 1)[0].id
    await script.say(service, *"abcdefgh", None)
    async with asyncio.timeout(PATIENCE):
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
    async with asyncio.timeout(PATIENCE):
        blocks = await follow(service, run_id)

    assert [block["data"] for block in blocks] == ['{"status":"stopped"}']


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
    async with asyncio.timeout(PATIENCE):
        blocks = await follow(service, run_id)

    assert blocks[-1]["data"] == '{"status":"stopped"}'


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


@pytest.mark.parametrize("compact", [lambda _: 1 // 0, lambda _: None, lambda _: []])
async def test_a_log_that_cannot_be_compacted_is_sent_as_it_is(
    serve: Callable[..., Any], compact: Any
) -> None:
    router = RunRouter(prefix="/runs")

    @router.run("/count", compact=compact)
    async def count() -> AsyncGenerator[str]:
        for number in range(200):
            yield str(number)

    service = await serve(router, realtime={"history_size": 60})
    run_id = await start(service, "count")
    async with asyncio.timeout(PATIENCE):
        while service.app.state.runs.count():
            await asyncio.sleep(0)
    blocks = await follow(service, run_id)

    assert [block["data"] for block in blocks] == [*map(str, range(200)), '{"status":"complete"}']


def shown(blocks: list[dict[str, str]], text: str = "") -> str:
    """Return what a client shows that discards everything at a reset."""
    for block in blocks:
        if block.get("event") == "reset":
            text = ""
        elif block.get("event") is None:
            text += block["data"]
    return text


@pytest.mark.parametrize("size", [1, 2, 3, 10, 30])
@pytest.mark.parametrize("seed", range(3))
async def test_a_client_has_the_whole_text_wherever_it_was_cut_off(
    serve: Callable[..., Any], size: int, seed: int
) -> None:
    talk, random = Talk(), Random(seed)
    service = await serve(talk.router, realtime={"history_size": size})
    run_id = await start(service, "talk")
    words = [f"{number} " for number in range(60)]
    cuts: list[tuple[str, str]] = [("", "")]
    said = 0
    while said < len(words):
        some = random.randint(1, 12)
        await talk.say(service, *words[said : said + some])
        await talk.has_said(service)
        said += some
        last_event_id, text = random.choice(cuts)
        async with service.raw_connection() as peer:
            follower = Follower(peer)
            await follower.follow(run_id, query=LATE + last_event_id if last_event_id else "")
            blocks = [await follower.block()]
            while not shown(blocks, text).endswith(words[min(said, len(words)) - 1]):
                if random.random() < 0.1:
                    break
                blocks.append(await follower.block())
        cuts.append((blocks[-1]["id"], shown(blocks, text)))
    await talk.say(service, None)
    async with asyncio.timeout(PATIENCE):
        while service.app.state.runs.count():
            await asyncio.sleep(0)
    for last_event_id, text in cuts:
        blocks = await follow(service, run_id, LATE + last_event_id if last_event_id else "")
        whole = shown(blocks, text)
        # If the history is too small, a `reset` reports that the beginning is missing.
        assert "".join(words).endswith(whole)
        assert whole == "".join(words) or size < 30
