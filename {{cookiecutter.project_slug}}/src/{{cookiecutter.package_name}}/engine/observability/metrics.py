"""Metrics, for Prometheus: every exchange as it ends, and the figures that modules offer.

Labels are routes, modules and outcomes: never an id, an address, or anything else that a client
makes up. With several workers each keeps its figures in a file, and any of them answers for all.
Sources: Prometheus text format 0.0.4; OpenMetrics 1.0.
"""

import asyncio
import logging
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import prometheus_client as prometheus
from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ..kernel.exchange import Exchange
from ..kernel.fields import joined
from ..kernel.kernel import BOUNDS, REFUSALS, Kernel, Measure
from ..kernel.threads import in_thread

#: The directory that workers share; prometheus-client looks for it when it is imported.
SHARED = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
#: Sweeps of the kernel after which a worker tells the others how things are.
SWEEPS = 4
#: How often the files of all workers are read again when one of them is still empty.
ATTEMPTS = 100

METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "WEBSOCKET"}
FIRST_BYTE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DURATION = (*FIRST_BYTE, 60, 300, 900, 3600, 14400)
#: What is told of the process, and how that of several is one.
PROCESS: dict[str, Literal["counter", "sum", "max"]] = {
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "sum",
    "process_open_fds": "sum",
    "process_max_fds": "sum",
    "process_start_time_seconds": "max",
}

logger = logging.getLogger(__name__)
router = APIRouter()


class Metrics:
    """The figures of one application."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._registry = _Registry()
        self._requests = self._counter(
            "http_requests", "Requests that have ended.", "method", "route", "status", "outcome"
        )
        self._duration = self._histogram(
            "http_request_duration_seconds", "Until the end of the response.", DURATION
        )
        self._first_byte = self._histogram(
            "http_first_byte_seconds", "Until the head of the response.", FIRST_BYTE
        )
        self._received = self._counter(
            "http_received_bytes", "Of bodies of requests that have ended.", "method", "route"
        )
        self._sent = self._counter(
            "http_sent_bytes", "Of bodies of responses that have ended.", "method", "route"
        )
        #: `labels` costs more than counting: what it returns is kept, by labels.
        self._recorders: dict[tuple[str, ...], Callable[[Exchange], None]] = {}
        self._sampled: dict[str, _Sampled] = {}
        self._sweeps = 0
        lag = prometheus.Histogram(
            "event_loop_lag_seconds",
            "Until the event loop answers; asked twice a second.",
            buckets=FIRST_BYTE,
            registry=self._registry,
        )
        kernel.watchdog.on_answer.append(lag.observe)
        self._process = _Process()
        kernel.measures += [*_of_kernel(kernel), *self._process.measures()]
        if SHARED:
            kernel.on_sweep.append(self._tell_others)

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        method = exchange.method if exchange.method in METHODS else "OTHER"
        labels = (method, exchange.route, str(exchange.status), exchange.outcome or "")
        record = self._recorders.get(labels)
        if record is None:
            record = self._recorders[labels] = self._recorder(*labels)
        record(exchange)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return all figures, and their media type."""
        await in_thread(None, self._process.look)
        self._sample()
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # A version that is no number.
            encode, media_type = choose_encoder("")
        return await in_thread(None, self._encoded, encode), media_type

    def _encoded(self, encode: Callable[[prometheus.CollectorRegistry], bytes]) -> bytes:
        for _ in range(ATTEMPTS):
            with suppress(struct.error):  # A worker that starts makes a file, then what is in it.
                return encode(self._of_all())
            time.sleep(0.01)
        return encode(self._of_all())

    def _of_all(self) -> prometheus.CollectorRegistry:
        if not SHARED:
            return self._registry
        _bury(Path(SHARED))
        registry = prometheus.CollectorRegistry()
        MultiProcessCollector(registry, SHARED)  # type: ignore[no-untyped-call]
        return registry

    def _recorder(
        self, method: str, route: str, status: str, outcome: str
    ) -> Callable[[Exchange], None]:
        count = self._requests.labels(method, route, status, outcome).inc
        duration = self._duration.labels(method, route).observe
        first_byte = self._first_byte.labels(method, route).observe
        received = self._received.labels(method, route).inc
        sent = self._sent.labels(method, route).inc

        def record(exchange: Exchange) -> None:
            count()
            duration(exchange.ended_at - exchange.started_at)
            if exchange.first_byte_at is not None:
                first_byte(exchange.first_byte_at - exchange.started_at)
            if exchange.bytes_in:
                received(exchange.bytes_in)
            if exchange.bytes_out:
                sent(exchange.bytes_out)

        return record

    def _tell_others(self) -> None:
        self._sweeps += 1
        if self._sweeps % SWEEPS == 1:
            asyncio.get_running_loop().run_in_executor(None, self._process.look)
            self._sample()

    def _sample(self) -> None:
        for measure in self._kernel.measures:
            if measure.name not in self._sampled:
                self._sampled[measure.name] = _Sampled(measure, self._registry)
            try:
                self._sampled[measure.name].sample(measure)
            except Exception:  # The others are wanted all the more.
                logger.exception("%s cannot be measured", measure.name)

    def _counter(self, name: str, text: str, *labels: str) -> prometheus.Counter:
        return prometheus.Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> prometheus.Histogram:
        labels = ("method", "route")
        return prometheus.Histogram(name, text, labels, buckets=buckets, registry=self._registry)


class _Registry(prometheus.CollectorRegistry):
    """A registry without the times at which figures began, which would double the lines.

    prometheus-client has a switch for it, but for all registries of the process.
    """

    def collect(self) -> Iterator[prometheus.Metric]:
        for metric in super().collect():
            began = f"{metric.name}_created"
            metric.samples = [sample for sample in metric.samples if sample.name != began]
            yield metric


class _Sampled:
    """The figures of one measure, as they were when it was last read."""

    def __init__(self, measure: Measure, registry: prometheus.CollectorRegistry) -> None:
        labels = [measure.label] if measure.label else []
        self._metric: prometheus.Counter | prometheus.Gauge
        if measure.kind == "counter":
            self._metric = prometheus.Counter(measure.name, measure.help, labels, registry=registry)
        else:
            mode: Literal["livesum", "livemax"] = "livesum" if measure.kind == "sum" else "livemax"
            self._metric = prometheus.Gauge(
                measure.name, measure.help, labels, registry=registry, multiprocess_mode=mode
            )
        self._last: dict[str, float] = {}

    def sample(self, measure: Measure) -> None:
        found = measure.read()
        values = dict(found) if isinstance(found, Mapping) else {"": found}
        gone = dict.fromkeys(self._last.keys() - values, 0.0)
        for label, value in {**gone, **values}.items():
            metric = self._metric.labels(label) if measure.label else self._metric
            if isinstance(metric, prometheus.Gauge):
                metric.set(value)
            else:
                metric.inc(max(value - self._last.get(label, 0.0), 0.0))
            self._last[label] = value


def _of_kernel(kernel: Kernel) -> list[Measure]:
    def streams() -> dict[str, float]:
        # The other slots are of single clients.
        return {name: count for name, count in kernel.streams.items() if " " not in name}

    def failing() -> dict[str, float]:
        return {name: float(not check()) for name, check in kernel.checks.items()}

    return [
        Measure("streams_open", "Streams that are open.", "sum", streams, "module"),
        Measure("checks_failing", "Whether streams lack something.", "max", failing, "check"),
        Measure(
            "server_refusals",
            "What the server ended before there was a request.",
            "counter",
            lambda: REFUSALS,
            "reason",
        ),
        Measure(
            "bounds_reached",
            "How often a bound was reached, by its setting.",
            "counter",
            lambda: BOUNDS,
            "bound",
        ),
        Measure("draining", "Whether a process drains.", "max", lambda: kernel.drain.draining),
        Measure(
            "event_loop_stalls",
            "Times that the event loop was stuck.",
            "counter",
            lambda: kernel.watchdog.stalls,
        ),
    ]


class _Process:
    """The figures of the process, as they were at the last look."""

    def __init__(self) -> None:
        self._collector = prometheus.ProcessCollector(registry=None)
        self._families: dict[str, prometheus.Metric] = {}
        self.look()

    def look(self) -> None:
        """Read what the system tells; it counts all descriptors, so not in the event loop."""
        self._families = {family.name: family for family in self._collector.collect()}

    def measures(self) -> list[Measure]:
        """Return those that the system tells."""
        return [
            Measure(name, family.documentation, PROCESS[name], partial(self._read, name))
            for name, family in self._families.items()
            if name in PROCESS
        ]

    def _read(self, name: str) -> float:
        return float(self._families[name].samples[0].value)


def _bury(directory: Path) -> None:
    """Let go of what workers that have died said of themselves; what they counted stays."""
    if sys.platform == "win32":
        return  # It has no way to ask for a process that is not also a way to end it.
    for process in {int(path.stem.rpartition("_")[2]) for path in directory.glob("gauge_live*.db")}:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # Another worker is doing it.
                mark_process_dead(process, str(directory))  # type: ignore[no-untyped-call]
        except PermissionError:
            pass


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Answer with the figures of all workers."""
    of_app: Metrics = request.app.state.metrics
    content, media_type = await of_app.text(joined(request.headers, "accept"))
    return Response(content, media_type=media_type)
