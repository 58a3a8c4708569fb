"""Request ids and trace contexts (W3C Trace Context, section 3.2): which are taken, and where."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from ..service import Service

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


async def ask(service: Service, *fields: str) -> Any:
    """Send a request with these fields and return its exchange."""
    async with service.raw_connection() as peer:
        await peer.get("/process", *fields, "Connection: close")
        await peer.read_to_end()
    return await service.ended("GET /process")


@pytest.mark.parametrize(
    "value",
    [
        VALID,
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
    ],
)
async def test_a_well_formed_trace_is_taken(service: Service, value: str) -> None:
    exchange = await ask(service, f"traceparent: {value}")

    assert exchange.traceparent == value
    assert exchange.trace_id == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        VALID.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"0x-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"cc-{TRACE}-{PARENT}-01more",
        f"00_{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01,{VALID}",
    ],
)
async def test_a_malformed_trace_is_as_good_as_none(service: Service, value: str) -> None:
    exchange = await ask(service, f"traceparent: {value}")

    assert (exchange.traceparent, exchange.trace_id) == (None, None)


async def test_several_traces_are_none(service: Service) -> None:
    exchange = await ask(service, f"traceparent: {VALID}", f"traceparent: {VALID}")

    assert exchange.trace_id is None


async def test_the_trace_is_in_every_line_of_its_request(service: Service) -> None:
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        await ask(service, f"traceparent: {VALID}", "X-Request-ID: abc")
        await ask(service)

    traced, others = lines[:2], lines[2:]
    assert [line["event"] for line in lines] == ["asked", "request"] * 2
    assert {(line["request_id"], line["trace_id"]) for line in traced} == {("abc", TRACE)}
    assert not any("trace_id" in line or line["request_id"] == "abc" for line in others)


@pytest.mark.parametrize("make", [lambda known: known * 8, lambda known: known + " x"])
async def test_an_id_that_is_not_well_formed_is_in_no_line(
    service: Service, make: Callable[[str], str]
) -> None:
    offered = make("abcdefghijklmnopqrstuvwxyz")
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        await ask(service, f"X-Request-ID: {offered}")

    assert len(lines) == 2
    assert offered not in str(lines)
