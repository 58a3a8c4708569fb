"""The log of a run: compacted for clients that join late, and continued by another process."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.realtime import (
    EventStreamReader,
    Message,
    RunResult,
    RunRouter,
    RunsDep,
    RunStream,
)
from {{cookiecutter.package_name}}.engine.realtime.runs.readers import End

from ..service import Service
from .runs import Follower, follow, start

#: The words of a run, and its whole text.
WORDS = [f"{number} " for number in range(1000)]
TEXT = "".join(WORDS)


def joined(messages: list[Message]) -> list[Message]:
    """Join texts; messages with a type stay as they are."""
    found: list[Message] = []
    for is_text, group in itertools.groupby(messages, lambda each: each.event is None):
        some = list(group)
        found += [Message("".join(each.data for each in some))] if is_text else some
    return found


class Once(EventStreamReader):
    """A format whose clients cannot continue after an event."""

    resumes = False


class Talk:
    """The run `talk`, whose log is compacted, and the routes of an owner."""

    def __init__(self) -> None:
        self.router = RunRouter(prefix="/runs")
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.started = 0

        @self.router.run("/talk", compact=joined)
        async def talk() -> AsyncGenerator[Any]:
            self.started += 1
            while (item := await self.items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item

        @self.router.post("/once")
        async def once(runs: RunsDep) -> RunStream:
            run = await runs.attach(talk, {}, key="once")
            return RunStream(runs, run.id, reader=Once(), stop_on_leave=True)

        @self.router.get("/once/{run_id}")
        async def again(runs: RunsDep, run_id: str) -> RunStream:
            return RunStream(runs, run_id, "aaaa-1", Once())

        @self.router.post("/whole")
        async def whole(runs: RunsDep) -> RunResult:
            run = await runs.attach(talk, {}, key="whole")
            return RunResult(runs, run.id, self.render, stop_on_leave=True)

    @staticmethod
    def render(messages: list[Message]) -> object:
        return [message.data for message in messages]

    async def say(self, service: Service, *items: Any) -> None:
        def put() -> None:
            for item in items:
                self.items.put_nowait(item)

        await service.call(put)

    async def has_said(self, service: Service) -> None:
        """Return when the run has published all items."""

        async def empty() -> None:
            while not self.items.empty():
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)

        await service.in_server(empty())


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
async def service(serve: Callable[..., Any], talk: Talk) -> Service:
    started: Service = await serve(talk.router, realtime={"history_size": 300})
    return started


def texts_of(blocks: list[dict[str, str]]) -> list[str]:
    return [block["data"] for block in blocks if block.get("event") is None]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250, 1000])
async def test_a_client_that_comes_late_gets_one_event(
    service: Service, talk: Talk, count: int
) -> None:
    run_id = await start(service, "talk")
    await talk.say(service, *WORDS[:count])
    await talk.has_said(service)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        assert (await follower.block())["data"] == "".join(WORDS[:count])
        await talk.say(service, "x", None)
        blocks = await follower.rest()

    assert texts_of(blocks) == ["x"]
    assert texts_of(await follow(service, run_id)) == ["".join(WORDS[:count]) + "x"]


async def test_a_client_that_was_away_gets_exactly_the_rest(service: Service, talk: Talk) -> None:
    run_id = await start(service, "talk")
    await talk.say(service, *WORDS[:900])
    await talk.has_said(service)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        first = await follower.block()
    await talk.say(service, *WORDS[900:], None)
    await talk.has_said(service)
    rest = await follow(service, run_id, f"?last_event_id={first['id']}")

    assert first["data"] + "".join(texts_of(rest)) == TEXT
    assert len(rest) == 101


async def test_a_client_that_was_away_for_too_long_gets_everything_once_more(
    service: Service, talk: Talk
) -> None:
    run_id = await start(service, "talk")
    await talk.say(service, *WORDS[:10])
    await talk.has_said(service)
    async with service.raw_connection() as peer:
        follower = Follower(peer)
        await follower.follow(run_id)
        first = await follower.block()
    await talk.say(service, *WORDS[10:], None)
    await talk.has_said(service)
    reset, *blocks = await follow(service, run_id, f"?last_event_id={first['id']}")
    again, *same = await follow(service, run_id, f"?last_event_id={reset['id']}")

    assert (reset["event"], texts_of(blocks)) == ("reset", [TEXT])
    assert (again["event"], same) == ("reset", blocks)


async def test_a_client_that_was_cut_off_within_the_past_gets_everything_once_more(
    service: Service, talk: Talk
) -> None:
    run_id = await start(service, "talk")
    tool = Message("t", event="tool")
    await talk.say(service, *WORDS[:400], tool, *WORDS[400:], None)
    await talk.has_said(service)
    blocks = await follow(service, run_id)
    reset, *again = await follow(service, run_id, f"?last_event_id={blocks[0]['id']}")
    rest = await follow(service, run_id, f"?last_event_id={blocks[2]['id']}")

    assert [block["data"] for block in blocks[:-1]] == [
        "".join(WORDS[:400]), "t", "".join(WORDS[400:]),
    ]  # fmt: skip
    assert reset["event"] == "reset"
    assert [block["data"] for block in again] == [block["data"] for block in blocks]
    assert [block.get("event") for block in rest] == ["end"]


async def test_a_format_without_positions_is_always_whole(service: Service, talk: Talk) -> None:
    run_id = await start(service, "talk")
    await talk.say(service, *WORDS, None)
    await talk.has_said(service)
    async with service.client() as client:
        stream = (await client.get(f"/runs/once/{run_id}")).text

    assert stream.count("data: ") == 2
    assert f"data: {TEXT}\n" in stream


async def test_a_format_without_positions_ends_where_events_are_missing(
    serve: Callable[..., Any],
) -> None:
    router = RunRouter(prefix="/runs")

    @router.run("/short")
    async def short() -> AsyncGenerator[str]:
        for word in "abc":
            yield word

    @router.get("/once/{run_id}")
    async def again(runs: RunsDep, run_id: str) -> RunStream:
        return RunStream(runs, run_id, reader=Once())

    service = await serve(router, realtime={"history_size": 2})
    run_id = await start(service, "short")
    await follow(service, run_id)
    async with service.client() as client:
        stream = (await client.get(f"/runs/once/{run_id}")).text

    assert "event: error\n" in stream
    assert stream.count("data: ") == 1


async def test_a_run_whose_only_client_leaves_is_stopped(service: Service, talk: Talk) -> None:
    async with service.raw_connection() as peer:
        await peer.send(b"POST /runs/once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await peer.read_head()
        run_id = await service.in_server(service.app.state.runs.active("", "once"))
        peer.reset()
    assert (await follow(service, run_id))[-1]["data"] == '{"status":"stopped"}'


async def test_the_whole_answer_is_one_document(service: Service, talk: Talk) -> None:
    await talk.say(service, *WORDS, None)
    async with service.client() as client:
        response = await client.post("/runs/whole")

    assert (response.status_code, "".join(response.json())) == (200, TEXT)


async def test_a_run_that_failed_has_no_document(service: Service, talk: Talk) -> None:
    await talk.say(service, "a", RuntimeError("secret"))
    async with service.client() as client:
        response = await client.post("/runs/whole")

    assert response.status_code == 500
    assert "secret" not in response.text


async def test_a_run_that_is_stopped_has_no_document(service: Service, talk: Talk) -> None:
    async with service.client() as client:
        waiting = asyncio.ensure_future(client.post("/runs/whole"))
        runs = service.app.state.runs
        while (run_id := await service.in_server(runs.active("", "whole"))) is None:
            await asyncio.sleep(0)
        await client.post(f"/runs/{run_id}/stop")
        response: httpx.Response = await waiting

    assert response.status_code == 410


async def test_a_client_that_does_not_wait_for_the_document_stops_the_run(
    service: Service, talk: Talk
) -> None:
    runs = service.app.state.runs
    async with service.raw_connection() as peer:
        head = b"POST /runs/whole HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        await peer.send(head)
        while (run_id := await service.in_server(runs.active("", "whole"))) is None:
            await asyncio.sleep(0)
        peer.reset()
    assert (await follow(service, run_id))[-1]["data"] == '{"status":"stopped"}'


async def test_a_drain_waits_for_clients_that_would_not_come_back(
    service: Service, talk: Talk
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(b"POST /runs/once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await peer.read_head()
        await service.call(service.app.state.kernel.drain.begin)
        await talk.say(service, "a", None)
        stream = (await peer.read_until(b"0\r\n\r\n")).decode()

    assert "data: a\n" in stream
    assert "event: end\n" in stream
    assert "reconnect" not in stream


async def test_a_client_that_would_not_come_back_gets_the_past_during_a_drain(
    service: Service, talk: Talk
) -> None:
    await service.call(service.app.state.kernel.drain.begin)
    async with service.raw_connection() as peer:
        await talk.say(service, "a")
        await peer.send(b"POST /runs/once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await peer.read_until(b"data: a\n")
        await talk.say(service, None)
        await peer.read_until(b"event: end\n")


def test_an_end_has_a_reason_for_people() -> None:
    failed = End("", "failed", {"title": "Bad Gateway", "detail": "The model is silent."})
    assert [each.detail for each in (End("", "complete"), End("", "stopped"), failed)] == [
        "", "The run was stopped.", "The model is silent.",
    ]  # fmt: skip
