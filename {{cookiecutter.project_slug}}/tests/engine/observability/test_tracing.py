"""Traces: one span per request; an error of a client is no error of the service."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from . import examples
from .conftest import Exporter, attribute
from .test_ids import PARENT, TRACE, VALID


@pytest.fixture
async def traced(exporter: Exporter, serve: Any) -> Service:
    started: Service = await serve(examples.router)
    return started


@pytest.mark.trap("E10")
async def test_a_stream_of_a_thousand_chunks_is_one_span(
    traced: Service, exporter: Exporter
) -> None:
    async with traced.client() as client:
        response = await client.get("/chunks?count=1000", headers={"traceparent": VALID})
        assert len(response.content) == 1000

    span = await exporter.span_of("/chunks")
    names = [each.name for each in exporter.spans if "/health" not in each.name]
    assert (names, span.kind) == (["GET /chunks"], SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert attribute(span, "http.response.status_code") == 200


async def test_a_client_that_leaves_is_no_error(traced: Service, exporter: Exporter) -> None:
    async with traced.raw_connection() as peer:
        await peer.get("/endless")
        await peer.read_head()
        peer.reset()

    span = await exporter.span_of("/endless")
    assert span.status.status_code is StatusCode.OK
    assert attribute(span, "outcome") == "client_abort"


@pytest.mark.parametrize("path", ["/crash", "/broken"])
async def test_a_failure_of_the_service_is_an_error(
    traced: Service, exporter: Exporter, path: str
) -> None:
    async with traced.raw_connection() as peer:
        await peer.get(path, "Connection: close")
        await peer.read_to_end()

    span = await exporter.span_of(path)
    assert span.status.status_code is StatusCode.ERROR
    assert "went wrong" not in str(span.to_json())


@pytest.mark.trap("E8")
async def test_no_span_has_a_secret_of_the_query(traced: Service, exporter: Exporter) -> None:
    async with traced.client() as client:
        await client.get("/process?token=hidden&count=3")

    span = await exporter.span_of("/process")
    assert attribute(span, "url.query") == "token=***&count=3"
    assert "hidden" not in str(span.to_json())


@pytest.mark.fault("G42")
async def test_no_span_has_a_credential_of_the_path_or_the_query(
    exporter: Exporter, serve: Any
) -> None:
    router = APIRouter()
    router.get("/named/{name}")(lambda name: None)
    service: Service = await serve(router)
    async with service.client() as client:
        await client.get("/named/Bearer%20hidden?q=%42earer%20hidden")

    span = await exporter.span_of("/named/{name}")
    assert "hidden" not in str(span.to_json())


async def test_the_log_has_the_trace_that_began_here(traced: Service, exporter: Exporter) -> None:
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with traced.client() as client:
            await client.get("/process")
        await traced.ended("GET /process")

    span = await exporter.span_of("/process")
    assert span.context is not None
    assert {line["trace_id"] for line in lines} == {f"{span.context.trace_id:032x}"}


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes], threading.Semaphore]]:
    """Take spans as OpenTelemetry's collector does: an address, the bodies, and one for each."""
    bodies, arrived = list[bytes](), threading.Semaphore(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            arrived.release()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies, arrived
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
async def test_the_variables_of_opentelemetry_turn_it_on(
    process: Callable[..., ServiceProcess],
    collector: tuple[str, list[bytes], threading.Semaphore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, bodies, arrived = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    async with process() as running, running.client() as client:
        await client.get("/chunks?count=1000")
        running.terminate()  # The shutdown sends the remaining spans.
        assert await running.exit_code() == 0

    assert arrived.acquire(timeout=PATIENCE)
    [body] = bodies
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    [scope] = resource.scope_spans
    assert [span.name for span in scope.spans] == ["GET /chunks"]
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "ours"
