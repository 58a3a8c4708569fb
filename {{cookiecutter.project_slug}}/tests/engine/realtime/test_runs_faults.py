"""Runs under faults: slow followers, full services, drains, brokers and processes that are gone."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.realtime.messages import Message
from {{cookiecutter.package_name}}.engine.realtime.runs import writer as writer_module
from {{cookiecutter.package_name}}.engine.realtime.runs.log import BEGIN
from {{cookiecutter.package_name}}.engine.realtime.runs.others import ALIVE, LOST_AFTER
from {{cookiecutter.package_name}}.engine.realtime.topics import Position

from ..service import SOAK, Service, ServiceProcess
from .runs import Follower, Script, follow, start

ELSEWHERE = "0123456789abcdef" * 2


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def service(serve: Callable[..., Any], script: Script) -> Service:
    started: Service = await serve(script.router)
    return started


@pytest.mark.trap("R4", "R8")
async def test_a_follower_that_reads_slowly_holds_up_no_run_and_is_told_what_it_missed(
    serve: Callable[..., Any], script: Script
) -> None:
    service = await serve(
        script.router, realtime={"history_size": 5}, streaming={"send_timeout": 60}
    )
    text = "x" * 60_000
    run_id = await start(service)
    async with service.raw_connection(receive_buffer=4096) as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        for _ in range(20):
            await script.say(service, *[text] * 10)
        await script.say(service, None)
        assert await script.closed()
        blocks = await follower.rest()

    assert len(blocks) < 200
    numbers = [int(block["id"].partition("-")[2]) for block in blocks]
    jumps = [place for place in range(1, len(blocks)) if numbers[place] != numbers[place - 1] + 1]
    assert jumps
    assert {blocks[place].get("event") for place in jumps} == {"reset"}


async def test_a_beginning_that_is_gone_is_told(serve: Callable[..., Any], script: Script) -> None:
    service = await serve(script.router, realtime={"history_size": 2})
    run_id = await start(service)
    await script.say(service, "a", "b", "c", None)
    assert await script.closed()
    reset, *blocks = await follow(service, run_id)

    assert json.loads(reset["data"])["reason"] == "evicted"
    assert [block["data"] for block in blocks] == ["c", '{"status":"complete"}']
    again = await follow(service, run_id, f"?last_event_id={reset['id']}")
    assert [block["id"] for block in again] == [block["id"] for block in blocks]


async def test_a_run_that_was_silent_for_longer_than_events_are_kept_is_still_there(
    serve: Callable[..., Any], script: Script
) -> None:
    service = await serve(script.router, realtime={"history_age": 1e-6})
    run_id = await start(service)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        assert (await follower.block())["event"] == "reset"
        await script.say(service, "a", None)
        blocks = await follower.rest()

    assert [block["data"] for block in blocks] == ["a", '{"status":"complete"}']
    await service.in_server(service.app.state.hub.tidy())
    async with service.client() as client:  # Its `end` has expired, too.
        assert (await client.get(f"/runs/{run_id}/events")).status_code == 204


@pytest.mark.bound("H26")
async def test_a_full_service_starts_no_more_runs(
    serve: Callable[..., Any], script: Script
) -> None:
    service = await serve(script.router, realtime={"max_runs": 2})
    async with service.client() as client:
        answers = await asyncio.gather(*(client.post("/runs/script") for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 503, 503, 503]
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1

        started = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
        await client.post(f"/runs/{started}/stop")
        await follow(service, started)
        assert (await client.post("/runs/script")).status_code == 201


@pytest.mark.fault("G35")
@pytest.mark.bound("H26")
async def test_one_client_cannot_take_all_runs(serve: Callable[..., Any], script: Script) -> None:
    service = await serve(script.router, realtime={"max_runs_per_client": 2, "max_runs": 3})

    async def post(address: str) -> httpx.Response:
        async with service.client() as client:
            headers = {"X-Forwarded-For": address}
            response: httpx.Response = await client.post("/runs/script", headers=headers)
            return response

    answers = await asyncio.gather(*(post("10.0.0.1") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert [(await post(f"10.0.0.{number}")).status_code for number in (2, 3)] == [201, 503]

    started = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
    await script.say(service, *[None] * 3)
    await follow(service, started)
    assert (await post("10.0.0.1")).status_code == 201


@pytest.mark.fault("G35")
@pytest.mark.bound("H26")
@pytest.mark.parametrize("waits", [True, False])
async def test_a_run_ends_when_it_is_too_old(
    serve: Callable[..., Any], script: Script, waits: bool
) -> None:
    service = await serve(script.router, realtime={"max_run_age": 0.3})
    if waits:
        run_id = await start(service, "script")
    else:
        run_id = await start(service, "counter", count=150, interval=0.01)
    end = (await follow(service, run_id))[-1]

    told = json.loads(end["data"])
    assert (end["event"], told["status"], told["problem"]["status"]) == ("end", "failed", 504)
    assert not waits or await script.closed()
    assert await service.reached("realtime.max_run_age") > 0


@pytest.mark.fault("G35")
async def test_a_run_that_is_stopped_has_time_to_clean_up_until_it_ends(
    serve: Callable[..., Any], script: Script
) -> None:
    service = await serve(script.router, realtime={"max_run_age": 0.3})
    script.cleans_up_until = threading.Event()
    run_id = await start(service, "script")
    async with service.client() as client:
        await client.post(f"/runs/{run_id}/stop")
    later = asyncio.get_running_loop().call_later(0.4, script.cleans_up_until.set)
    end = (await follow(service, run_id))[-1]

    assert later.when() < asyncio.get_running_loop().time()
    assert (json.loads(end["data"]), await script.closed()) == ({"status": "stopped"}, True)


@pytest.mark.trap("R6", "R9")
async def test_nothing_is_left_of_runs_that_have_ended(
    service: Service, no_collector: None
) -> None:
    async with service.client() as client:
        for number in range(10 * SOAK):
            run_id = await start(service, "counter", count=3, interval=0 if number % 2 else 60)
            async with service.raw_connection() as peer:
                await Follower(peer).follow(run_id)
                peer.reset()
            await client.post(f"/runs/{run_id}/stop")
            await follow(service, run_id)
            assert await service.outcome_of("GET /runs/{run_id}/events")

    def left() -> list[str]:
        tasks = (task.get_coro() for task in asyncio.all_tasks())
        return [name for coro in tasks if "run" in (name := getattr(coro, "__qualname__", ""))]

    runs = service.app.state.runs
    assert [name for name in await service.call(left) if "Runs" in name] == []
    assert (runs._tasks, runs._running, runs._clients) == (set(), {}, {})
    assert await service.call(service.app.state.hub.subscriptions) == set()


@pytest.mark.trap("R7")
async def test_the_end_of_the_service_interrupts_what_runs_and_lets_it_clean_up(
    script: Script,
) -> None:
    cleaned_up = script.cleans_up_until = threading.Event()
    async with Service(script.router) as service:
        run_id = await start(service)
        await script.say(service, "a")
        threading.Timer(0.2, cleaned_up.set).start()
    assert await script.closed()

    ring = service.app.state.hub._rings[f"run:{run_id}"]
    assert [event.message.data for event in ring.after(ring.floor)] == [
        "",
        "a",
        '{"status":"interrupted"}',
    ]
    assert service.app.state.runs._tasks == set()


@pytest.mark.trap("R11")
async def test_a_drain_sends_followers_elsewhere_while_the_run_goes_on(
    service: Service, script: Script
) -> None:
    run_id = await start(service)
    async with service.raw_connection() as peer, service.client() as client:
        follower = Follower(peer)
        await follower.follow(run_id)
        await script.say(service, "a")
        await follower.block()
        await service.call(service.app.state.kernel.drain.begin)

        assert (await follower.block())["event"] == "reconnect"
        assert await peer.read_until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"
        for accepted in ("*/*", "text/event-stream"):
            refused = await client.post("/runs/script", headers={"Accept": accepted})
            assert refused.status_code == 503
        assert run_id in service.app.state.runs._running
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
    assert await script.closed()


@pytest.mark.trap("R11")
async def test_an_event_source_that_comes_during_a_drain_gets_the_run_so_far(
    service: Service, script: Script
) -> None:
    run_id = await start(service)
    await script.say(service, "a")
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        await follower.block()
    await service.call(service.app.state.kernel.drain.begin)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id, "Accept: text/event-stream")
        said, farewell = await follower.block(), await follower.block()

    assert (said["data"], farewell["event"]) == ("a", "reconnect")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.trap("R11", "R12")
@pytest.mark.slow
async def test_sigterm_ends_a_service_with_runs_cleanly(tmp_path: Path) -> None:
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        run_id = await start(process, "counter", interval=60)
        follower = Follower(peer)
        await follower.follow(run_id)
        await follower.block()
        process.terminate()

        assert (await follower.block())["event"] == "reconnect"
        assert (await peer.read_to_end()).endswith(b"0\r\n\r\n")
        assert await process.exit_code() == 0


async def test_a_run_goes_on_when_the_broker_has_lost_everything(
    service: Service, script: Script
) -> None:
    hub = service.app.state.hub
    run_id = await start(service)
    async with service.raw_connection() as peer, service.client() as client:
        follower = Follower(peer)
        await follower.follow(run_id)
        await script.say(service, "a")
        assert (await follower.block())["data"] == "a"
        await service.call(lambda: hub.heard(Position("another", 100)))
        assert (await follower.block())["event"] == "reset"
        await script.say(service, "b")
        assert (await follower.block())["data"] == "b"
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 202
        [end] = await follower.rest()

    assert end["data"] == '{"status":"stopped"}'


async def test_a_run_waits_for_a_broker_that_is_away(
    service: Service, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, tried = service.app.state.hub.backend, []
    publish = backend.publish

    async def unreliable(topic: str, message: Message, *rest: Any) -> Any:
        tried.append(message.data)
        if len(tried) % 3:
            raise Problem(503)
        return await publish(topic, message, *rest)

    run_id = await start(service)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(backend, "publish", unreliable)
    await script.say(service, "a", "b", None)
    blocks = await follow(service, run_id)

    assert [block["data"] for block in blocks] == ["a", "b", '{"status":"complete"}']
    assert tried.count("a") == 3


@pytest.mark.parametrize("broker_is_away", [False, True])
async def test_a_run_whose_process_is_gone_is_ended_by_one_that_follows_it(
    serve: Callable[..., Any], broker_is_away: bool
) -> None:
    service = await serve(realtime={"history_size": 1})
    hub, runs = service.app.state.hub, service.app.state.runs
    await service.in_server(hub.publish(f"run:{ELSEWHERE}", Message("", BEGIN)))
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(ELSEWHERE)
        for _ in range(LOST_AFTER * 2):  # While its process reports that it is alive.
            for alive in (f"{'f' * 32} {ELSEWHERE}", "f" * 32):
                await service.in_server(hub.publish(ALIVE, Message(alive)))
            await service.in_server(runs.tend())
        hub.backend.up = not broker_is_away
        for _ in range(LOST_AFTER * (2 if broker_is_away else 1)):
            await service.in_server(runs.tend())
        hub.backend.up = True
        await service.in_server(hub.publish(f"run:{ELSEWHERE}", Message("last")))
        assert (await follower.block())["data"] == "last"
        for _ in range(LOST_AFTER + 1):
            await service.in_server(runs.tend())
        [end] = await follower.rest()

    assert (end["event"], end["data"]) == ("end", '{"status":"interrupted"}')
    assert await follow(service, ELSEWHERE) != []


@pytest.mark.trap("R7")
async def test_a_second_stop_does_not_cut_off_what_the_first_has_begun(
    service: Service, script: Script
) -> None:
    cleaned_up = script.cleans_up_until = threading.Event()
    run_id = await start(service)
    await script.say(service, "a")
    async with service.raw_connection() as peer, service.client() as client:
        follower = Follower(peer)
        await follower.follow(run_id)
        await follower.block()
        for _ in range(3):
            await client.post(f"/runs/{run_id}/stop")
        cleaned_up.set()
        [end] = await follower.rest()

    assert await script.closed()
    assert end["data"] == '{"status":"stopped"}'


async def test_a_run_ends_only_once_whoever_says_so(service: Service, script: Script) -> None:
    run_id = await start(service)
    await script.say(service, "a", None)
    blocks = await follow(service, run_id)
    await service.in_server(service.app.state.runs._writer.end(run_id, "interrupted"))

    assert await follow(service, run_id) == blocks
