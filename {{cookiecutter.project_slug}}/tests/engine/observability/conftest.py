"""The examples, in this process and in one of their own."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from {{cookiecutter.package_name}}.engine import observability
from {{cookiecutter.package_name}}.engine.observability import tracing

from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from . import examples


@pytest.fixture
async def service(serve: Any) -> Service:
    started: Service = await serve(examples.router)
    return started


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., ServiceProcess]:
    """Make a process with the examples; the arguments are those of `ServiceProcess`."""
    shutil.copy(examples.__file__, tmp_path / "examples.py")

    def make(*arguments: str, **environment: str) -> ServiceProcess:
        return ServiceProcess(tmp_path, "-m", *(arguments or ("examples",)), **environment)

    return make


@pytest.fixture
async def workers(
    process: Callable[..., ServiceProcess],
) -> AsyncIterator[ServiceProcess]:
    """Two processes with the examples, and their supervisor."""
    async with process(WORKERS="2", SERVER__STUCK_AFTER="2 s") as running:
        try:
            yield running
        finally:  # A kill would leave the workers running.
            running.terminate()
            await running.exit_code()


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
    """Enable tracing for services that are started from now on, and return their spans."""
    exporter, provider = Exporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    options = {**tracing.options(), "tracer_provider": provider}
    monkeypatch.setattr(observability, "telemetry", lambda: options)
    return exporter
