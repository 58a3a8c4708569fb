"""Limits of connections, events and their rate; each response has a time to retry."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from ..service import Service
from .poller import replay
from .subscriber import TEXT, Subscriber, publish

ROUTE = "GET /topics/{topics}/events"


def from_address(address: str) -> dict[str, str]:
    """Return the headers by which a proxy names a client."""
    return {"X-Forwarded-For": address}


async def follow(
    stack: AsyncExitStack, service: Service, topics: str, address: str = "10.0.0.1"
) -> Subscriber:
    subscriber = Subscriber(await stack.enter_async_context(service.raw_connection()))
    await subscriber.open(topics, f"X-Forwarded-For: {address}")
    return subscriber


async def refusal(service: Service, topics: str, address: str = "10.0.0.1") -> httpx.Response:
    async with service.client() as client:
        url = f"/topics/{topics}/events?poll=0"
        return await client.get(url, headers=from_address(address))


def says_when(response: httpx.Response) -> bool:
    return int(response.headers["retry-after"]) >= 1


@pytest.mark.trap("E4")
@pytest.mark.bound("H8")
async def test_the_streams_of_the_module_are_limited(serve: Any) -> None:
    service: Service = await serve(streaming={"max_streams": 2})
    async with AsyncExitStack() as stack:
        for topic in ("a", "b"):
            await follow(stack, service, topic)
        refused = await refusal(service, "c")
        assert (refused.status_code, says_when(refused)) == (503, True)
        async with service.client() as client:
            assert (await client.get("/health/live")).status_code == 200
            published = await client.post("/topics/a/events", content="x", headers=TEXT)
            assert published.status_code == 202
    await service.ended(ROUTE)
    await service.ended(ROUTE)
    await service.ended(ROUTE)
    assert (await refusal(service, "c")).status_code == 200


async def test_the_module_may_have_limits_of_its_own(serve: Any) -> None:
    service: Service = await serve(streaming={"max_streams": 2}, realtime={"max_streams": 1})
    async with AsyncExitStack() as stack:
        await follow(stack, service, "a")
        refused = await refusal(service, "b")
        assert (refused.status_code, says_when(refused)) == (503, True)


@pytest.mark.trap("E4")
@pytest.mark.bound("H9")
async def test_the_streams_of_one_client_are_limited(serve: Any) -> None:
    service: Service = await serve(streaming={"max_streams_per_client": 2})
    async with AsyncExitStack() as stack:
        await follow(stack, service, "a")
        await follow(stack, service, "b")
        refused = await refusal(service, "c")
        assert (refused.status_code, says_when(refused)) == (429, True)
        assert (await refusal(service, "c", "10.0.0.2")).status_code == 200


@pytest.mark.fault("G35")
async def test_a_client_has_a_tenth_of_the_streams_by_default(service: Service) -> None:
    limits = service.app.state.kernel.limits
    assert limits.max_streams_per_client * 10 == limits.max_streams


@pytest.mark.parametrize(
    ("address", "other", "status"),
    [
        pytest.param(
            "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", 429, marks=pytest.mark.fault("G35")
        ),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", 200),
        pytest.param("::ffff:10.0.0.1", "10.0.0.1", 429, marks=pytest.mark.fault("G35")),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", 200),
    ],
)
async def test_a_network_of_ipv6_is_one_client(
    serve: Any, address: str, other: str, status: int
) -> None:
    service: Service = await serve(streaming={"max_streams_per_client": 1})
    async with AsyncExitStack() as stack:
        await follow(stack, service, "a", address)
        assert (await refusal(service, "b", other)).status_code == status


@pytest.mark.trap("E4")
@pytest.mark.parametrize("others", ["a", "a,b", "a.*,a"])
@pytest.mark.bound("H24")
async def test_the_subscribers_of_a_topic_are_limited(serve: Any, others: str) -> None:
    service: Service = await serve(realtime={"max_per_topic": 2})
    async with AsyncExitStack() as stack:
        await follow(stack, service, "a")
        last = await follow(stack, service, others)
        for topics in ("a", "a,c"):
            refused = await refusal(service, topics)
            assert (refused.status_code, says_when(refused)) == (503, True)
        assert (await refusal(service, "c")).status_code == 200

        await publish(service, "a", "x")
        assert (await last.block())["data"]


@pytest.mark.bound("H27")
async def test_a_client_publishes_only_so_fast(serve: Any) -> None:
    service: Service = await serve(realtime={"publish_rate": 0.01})
    headers = TEXT | from_address("10.0.0.1")
    async with service.client() as client:
        url = "/topics/a/events"
        first = await client.post(url, content="x", headers=headers)
        second = await client.post(url, content="x", headers=headers)
        other = await client.post(url, content="x", headers=TEXT | from_address("10.0.0.2"))

    assert (first.status_code, second.status_code, other.status_code) == (202, 429, 202)
    assert 90 <= int(second.headers["retry-after"]) <= 100


async def test_a_burst_of_as_many_events_as_come_in_a_second_is_taken(serve: Any) -> None:
    service: Service = await serve(realtime={"publish_rate": 5})
    async with service.client() as client:
        statuses = [
            (await client.post("/topics/a/events", content="x", headers=TEXT)).status_code
            for _ in range(100)
        ]
    assert statuses[:5] == [202] * 5
    assert 429 in statuses


@pytest.mark.parametrize("is_declared", [False, True])
@pytest.mark.bound("H20")
async def test_an_event_has_only_so_many_bytes(serve: Any, is_declared: bool) -> None:
    service: Service = await serve(realtime={"max_event_size": 1000})

    async def chunks() -> Any:
        yield b"x" * 1000
        yield b"x"

    async with service.client() as client:
        url = "/topics/a/events"
        largest = await client.post(url, content=b"x" * 1000, headers=TEXT)
        body: Any = b"x" * 1001 if is_declared else chunks()
        refused = await client.post(url, content=body, headers=TEXT)

    assert (largest.status_code, refused.status_code) == (202, 413)
    assert await replay(service, "a", largest.json()["id"]) == []


@pytest.mark.trap("R11")
@pytest.mark.bound("H25")
@pytest.mark.slow
async def test_a_stream_of_a_certain_age_is_told_to_come_back(serve: Any) -> None:
    service: Service = await serve(realtime={"max_age": 0.1})
    async with service.raw_connection() as peer:
        subscriber = Subscriber(peer)
        await subscriber.open("news")
        [seen] = await publish(service, "news", "a")
        blocks = [await subscriber.block(), await subscriber.block()]
        rest = await peer.read_until(b"0\r\n\r\n")

    assert [block.get("event") for block in blocks] == [None, "reconnect"]
    assert blocks[1]["retry"].isdigit()
    assert "id" not in blocks[1]  # It does not change the position.
    assert json.loads(blocks[1]["data"]) == {}
    assert rest == b"\r\n0\r\n\r\n"
    assert await service.outcome_of(ROUTE) == "complete"
    await publish(service, "news", "b")
    assert await replay(service, "news", seen) == ["b"]


async def test_streams_that_came_together_do_not_all_end_together(serve: Any) -> None:
    service: Service = await serve(realtime={"max_age": 1000})
    async with AsyncExitStack() as stack:
        for _ in range(10):
            await follow(stack, service, "news")
        ends = {channel.ends_at for channel in service.app.state.kernel.channels}

    assert max(ends) - min(ends) > 5
