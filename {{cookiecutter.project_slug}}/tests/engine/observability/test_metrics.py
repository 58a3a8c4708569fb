"""Metrics: requests are counted under labels that no client can multiply."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from {{cookiecutter.package_name}}.engine.kernel import Measure

from ..service import Service
from . import examples

Figures = dict[tuple[str, ...], float]
TOTAL = "http_requests_total"


async def scrape(service: Any) -> Figures:
    async with service.client() as client:
        return await figures_of(client)


async def figures_of(client: httpx.AsyncClient) -> Figures:
    """Return the values of all samples, by name and values of labels in order of their names."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_requests_are_counted_as_they_ended(service: Service) -> None:
    async with service.client() as client:
        for path in ("/process", "/process", "/crash"):
            await client.get(path)
    async with service.raw_connection() as peer:
        await peer.get("/endless")
        await peer.read_head()
        peer.reset()
    for path in ("/process", "/process", "/crash", "/endless"):
        await service.ended(f"GET {path}")

    figures = await scrape(service)
    counted = {labels[1:]: value for labels, value in figures.items() if labels[0] == TOTAL}
    assert counted == {
        ("GET", "complete", "/process", "200"): 2,
        ("GET", "server_error", "/crash", "500"): 1,
        ("GET", "client_abort", "/endless", "200"): 1,
    }


async def test_sizes_and_times_are_counted(service: Service) -> None:
    async with service.client() as client:
        await client.get("/chunks?count=5")
        await client.post("/process", content=b"x" * 1000)
    await service.ended("GET /chunks")

    figures = await scrape(service)
    assert figures["http_sent_bytes_total", "GET", "/chunks"] == 5
    assert figures["http_request_duration_seconds_count", "GET", "/chunks"] == 1
    assert figures["http_request_duration_seconds_bucket", "14400.0", "GET", "/chunks"] == 1
    first_byte = figures["http_first_byte_seconds_sum", "GET", "/chunks"]
    assert 0 < first_byte <= figures["http_request_duration_seconds_sum", "GET", "/chunks"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, "431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
    ],
)
async def test_refusals_of_the_server_are_counted(
    service: Service, request_: bytes, reason: str
) -> None:
    counter = "server_refusals_total", reason
    before = (await scrape(service)).get(counter, 0)
    async with service.raw_connection() as peer:
        await peer.send(request_)
        assert reason.encode() in await peer.read_head()

    assert (await scrape(service))[counter] == before + 1


async def test_open_streams_are_counted_by_module(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.get("/endless")
        await peer.read_head()
        assert (await scrape(service))["streams_open", "examples"] == 1
        peer.reset()
    await service.ended("GET /endless")

    assert (await scrape(service))["streams_open", "examples"] == 0


async def test_a_client_cannot_make_labels(service: Service) -> None:
    async with service.client() as client:
        for number in range(5):
            await client.get(f"/made/up/{number}?x={number}", headers={"X-Request-ID": f"{number}"})
        for method in ("PROPFIND", "LOCK", "PURGE"):
            await client.request(method, "/process")

    figures = await scrape(service)
    made_up = {labels[1:]: value for labels, value in figures.items() if labels[0] == TOTAL}
    assert made_up.pop(("GET", "rejected", "(none)", "404")) == 5
    assert {labels[0] for labels in made_up} == {"OTHER"}
    assert sum(made_up.values()) == 3


async def test_metrics_are_never_limited(serve: Any) -> None:
    service: Service = await serve(examples.router, streaming={"max_streams": 1})
    async with service.raw_connection() as peer:
        await peer.get("/endless")
        await peer.read_head()
        await service.call(service.app.state.kernel.drain.begin)

        assert (await scrape(service))["draining",] == 1


async def test_the_form_is_as_asked(service: Service) -> None:
    async with service.client() as client:
        for accept, media_type in {
            "*/*": "text/plain; version=0.0.4; charset=utf-8",
            "application/openmetrics-text;version=1.0.0": "application/openmetrics-text; version=1",
            "text/plain;version=x": "text/plain; version=0.0.4; charset=utf-8",
        }.items():
            response = await client.get("/metrics", headers={"Accept": accept})
            assert response.headers["content-type"].startswith(media_type)
        head = await client.head("/metrics")

    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 1000


async def test_modules_offer_their_own(service: Service) -> None:
    values = [{"a": 1.0, "b": 2.0}, {"b": 5.0}]

    def fail() -> float:
        raise OSError

    service.app.state.kernel.measures += [
        Measure("failing", "Cannot be read.", "max", fail),
        Measure("things", "Counted.", "counter", lambda: values[0], "kind"),
        Measure("levels", "As they are.", "sum", lambda: values[0], "kind"),
        Measure("one", "Without a label.", "max", lambda: 7),
    ]
    figures = await scrape(service)
    assert (figures["things_total", "b"], figures["levels", "a"], figures["one",]) == (2, 1, 7)

    values.pop(0)
    figures = await scrape(service)
    assert (figures["things_total", "a"], figures["things_total", "b"]) == (1, 5)
    assert (figures["levels", "a"], figures["levels", "b"]) == (0, 5)


async def test_the_names_are_those_of_one_kind(service: Service) -> None:
    """Base units, and the suffix of counters (Prometheus, metric and label naming)."""
    async with service.client() as client:
        text = (await client.get("/metrics")).text

    types = dict(re.findall(r"# TYPE (\S+) (\S+)", text))
    assert {name for name in types if types[name] == "counter"} == {
        name for name in types if name.endswith("_total")
    }
    assert not [name for name in types if re.search("_ms$|_kb$|_count$", name)]
    assert "_created" not in text


async def test_scrapes_at_the_same_time_do_not_disturb_each_other(service: Service) -> None:
    async with service.client() as client:
        await client.get("/health/live")
    await service.ended("GET /health/live")
    for figures in await asyncio.gather(*(scrape(service) for _ in range(10))):
        assert figures["http_requests_total", "GET", "complete", "/health/live", "200"] == 1


@pytest.mark.parametrize("path", ["/metrics"])
async def test_monitors_are_not_part_of_the_interface(service: Service, path: str) -> None:
    async with service.client() as client:
        assert path not in (await client.get("/openapi.json")).json()["paths"]
