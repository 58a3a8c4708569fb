"""Traces: one span per request, whatever its response is; what clients do is no error of ours."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from {{cookiecutter.package_name}}.engine import observability
from {{cookiecutter.package_name}}.engine.kernel.exchange import Exchange
from {{cookiecutter.package_name}}.engine.kernel.outcomes import Outcome
from {{cookiecutter.package_name}}.engine.observability import tracing
from {{cookiecutter.package_name}}.engine.streams.push import PushResponse

from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from ..streams.test_direct import Parts
from . import examples
from .test_ids import PARENT, TRACE, VALID


class Exporter(SpanExporter):
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self._news = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._news:
            self.spans += spans
            self._news.notify_all()
        return SpanExportResult.SUCCESS

    async def span_of(self, route: str) -> ReadableSpan:
        """Wait for the span of a request, and return it."""

        def find() -> ReadableSpan | None:
            found = [span for span in self.spans if attribute(span, "http.route") == route]
            return found[0] if found else None

        def wait() -> ReadableSpan:
            with self._news:
                found = self._news.wait_for(find, PATIENCE)
            assert found, f"no span of {route}; {[span.name for span in self.spans]}"
            return found

        return await asyncio.to_thread(wait)


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    """Have services traced that are started from now on, and return their spans."""
    exporter, provider = Exporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    options = {**tracing.options(), "tracer_provider": provider}
    monkeypatch.setattr(observability, "telemetry", lambda: options)
    return exporter


@pytest.fixture
async def traced(exporter: Exporter, serve: Any) -> Service:
    started: Service = await serve(examples.router, streaming={"send_timeout": PATIENCE})
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


async def test_a_client_that_does_not_read_is_no_error(exporter: Exporter, serve: Any) -> None:
    service: Service = await serve(examples.router, streaming={"send_timeout": 0.2})
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get("/endless")
        await peer.read_head()
        span = await exporter.span_of("/endless")

    assert span.status.status_code is StatusCode.OK
    assert attribute(span, "outcome") == "slow_client"


@pytest.mark.parametrize("path", ["/crash", "/broken"])
async def test_what_goes_wrong_here_is_an_error(
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


async def test_the_log_has_the_trace_that_began_here(traced: Service, exporter: Exporter) -> None:
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with traced.client() as client:
            await client.get("/process")
        await traced.ended("GET /process")

    span = await exporter.span_of("/process")
    assert span.context is not None
    assert {line["trace_id"] for line in lines} == {f"{span.context.trace_id:032x}"}


async def test_parts_are_written_past_the_layers_all_the_same(
    exporter: Exporter, serve: Any
) -> None:
    router, opened = APIRouter(), list[Parts]()

    class Response(PushResponse):
        async def open(self, exchange: Exchange) -> Parts:
            opened.append(Parts(exchange))
            return opened[-1]

    @router.get("/parts")
    async def parts() -> Response:
        return Response()

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/parts")
        await peer.read_head()
        assert await service.call(lambda: opened[0].exchange.direct_writer()) is not None
        await service.call(lambda: opened[0].put(b"1", b"2"))
        await service.call(lambda: opened[0].finish(b"3", Outcome.COMPLETE))
        assert await peer.read_until(b"0\r\n\r\n") == b"1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n"

    span = await exporter.span_of("/parts")
    assert span.status.status_code is StatusCode.UNSET


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
        running.terminate()  # Its end sends what is left.
        assert await running.exit_code() == 0

    assert arrived.acquire(timeout=PATIENCE)
    [body] = bodies
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    [scope] = resource.scope_spans
    assert [span.name for span in scope.spans] == ["GET /chunks"]
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "ours"
