"""Metrics for Prometheus: every exchange as it ends, and the measures that modules add.

Labels are routes, modules and outcomes: never an id, an address or anything else that a client
chooses. Several workers keep their metrics in files, and each responds with the metrics of all.
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
from typing import Any, Literal

import prometheus_client as prometheus
from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ..kernel.access import asks_for, require
from ..kernel.exchange import Exchange
from ..kernel.fields import joined
from ..kernel.kernel import BOUNDS, REFUSALS, Kernel, Measure
from ..kernel.threads import in_thread

#: The directory that workers share; prometheus-client looks for it when it is imported.
SHARED = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
#: Sweeps of the kernel after which a worker updates its gauges for the others.
SWEEPS = 4
#: Attempts to read the files of all workers, because one of them may still be empty.
ATTEMPTS = 100

#: The scope of `/metrics`.
SCOPE = "metrics:read"
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "WEBSOCKET"}
FIRST_BYTE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DURATION = (*FIRST_BYTE, 60, 300, 900, 3600, 14400)
#: Metrics of the process, and how those of several are combined.
PROCESS: dict[str, Literal["counter", "sum", "max"]] = {
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "sum",
    "process_open_fds": "sum",
    "process_max_fds": "sum",
    "process_start_time_seconds": "max",
}

logger = logging.getLogger(__name__)
router = APIRouter()


class _Registry(prometheus.CollectorRegistry):
    """A registry without the creation times of metrics, which would double the lines.

    prometheus-client has a switch for this, but only for all registries of the process.
    """

    def collect(self) -> Iterator[prometheus.Metric]:
        for metric in super().collect():
            created = f"{metric.name}_created"
            metric.samples = [sample for sample in metric.samples if sample.name != created]
            yield metric


class Metrics:
    """The metrics of one application."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._registry = _Registry()
        labels = ("method", "route")
        self._requests = prometheus.Counter(
            "http_requests",
            "Requests that have ended.",
            (*labels, "status", "outcome"),
            registry=self._registry,
        )
        self._duration, self._first_byte = (
            prometheus.Histogram(name, text, labels, buckets=buckets, registry=self._registry)
            for name, text, buckets in (
                ("http_request_duration_seconds", "Seconds until the response ended.", DURATION),
                ("http_first_byte_seconds", "Seconds until the headers were sent.", FIRST_BYTE),
            )
        )
        self._received, self._sent = (
            prometheus.Counter(name, text, labels, registry=self._registry)
            for name, text in (
                ("http_received_bytes", "Bytes of the bodies of ended requests."),
                ("http_sent_bytes", "Bytes of the bodies of ended responses."),
            )
        )
        #: The metrics of exchanges with their labels: looking these up costs more than counting.
        self._labelled: dict[tuple[str, ...], Any] = {}
        #: The metrics of measures, and their values when they were read before.
        self._measured: dict[str, prometheus.Counter | prometheus.Gauge] = {}
        self._values: dict[str, dict[str, float]] = {}
        self._sweeps = 0
        lag = prometheus.Histogram(
            "event_loop_lag_seconds",
            "Seconds until the event loop responds; checked twice a second.",
            buckets=FIRST_BYTE,
            registry=self._registry,
        )
        kernel.watchdog.on_answer.append(lag.observe)
        #: The metrics of the process when they were read last.
        self._process: dict[str, prometheus.Metric] = {}
        self._read_process()
        kernel.measures += [*_of_kernel(kernel), *self._of_process()]
        if SHARED:
            kernel.on_sweep.append(self._share)

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        method = exchange.method if exchange.method in METHODS else "OTHER"
        labels = (method, exchange.route, str(exchange.status), exchange.outcome or "")
        if labels not in self._labelled:
            self._labelled[labels] = (
                self._requests.labels(*labels),
                *(each.labels(*labels[:2]) for each in (self._duration, self._first_byte)),
                *(each.labels(*labels[:2]) for each in (self._received, self._sent)),
            )
        requests, duration, first_byte, received, sent = self._labelled[labels]
        requests.inc()
        duration.observe(exchange.ended_at - exchange.started_at)
        if exchange.first_byte_at is not None:
            first_byte.observe(exchange.first_byte_at - exchange.started_at)
        received.inc(exchange.bytes_in)
        sent.inc(exchange.bytes_out)

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics, and their media type."""
        await in_thread(None, self._read_process)
        self._sample_all()
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # A version that is not a number.
            encode, media_type = choose_encoder("")
        return await in_thread(None, self._encoded, encode), media_type

    def _encoded(self, encode: Callable[[prometheus.CollectorRegistry], bytes]) -> bytes:
        for _ in range(ATTEMPTS):
            with suppress(struct.error):  # A worker that starts creates a file, then writes to it.
                return encode(self._of_all_workers())
            time.sleep(0.01)
        return encode(self._of_all_workers())

    def _of_all_workers(self) -> prometheus.CollectorRegistry:
        if not SHARED:
            return self._registry
        if sys.platform != "win32":  # On Windows, `os.kill` may end the process.
            _remove_dead_workers(Path(SHARED))
        registry = prometheus.CollectorRegistry()
        MultiProcessCollector(registry, SHARED)  # type: ignore[no-untyped-call]
        return registry

    def _share(self) -> None:
        """Update the gauges of this worker for the others."""
        self._sweeps += 1
        if self._sweeps % SWEEPS == 1:
            asyncio.get_running_loop().run_in_executor(None, self._read_process)
            self._sample_all()

    def _sample_all(self) -> None:
        for measure in self._kernel.measures:
            try:
                self._sample(measure)
            except Exception:  # The other measures must not be missing, too.
                logger.exception("%s cannot be measured", measure.name)

    def _sample(self, measure: Measure) -> None:
        if measure.name not in self._measured:
            self._measured[measure.name] = self._metric_of(measure)
        metric, last = self._measured[measure.name], self._values.setdefault(measure.name, {})
        found = measure.read()
        values = dict(found) if isinstance(found, Mapping) else {"": found}
        for label, value in {**dict.fromkeys(last, 0.0), **values}.items():
            child = metric.labels(label) if measure.label else metric
            if isinstance(child, prometheus.Gauge):
                child.set(value)
            else:
                child.inc(max(value - last.get(label, 0.0), 0.0))
            last[label] = value

    def _metric_of(self, measure: Measure) -> prometheus.Counter | prometheus.Gauge:
        name, text, labels = measure.name, measure.help, [measure.label] if measure.label else []
        if measure.kind == "counter":
            return prometheus.Counter(name, text, labels, registry=self._registry)
        mode: Literal["livesum", "livemax"] = "livesum" if measure.kind == "sum" else "livemax"
        return prometheus.Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _read_process(self) -> None:
        """Read the metrics of the process; slow, because this counts all descriptors."""
        families = prometheus.ProcessCollector(registry=None).collect()
        self._process = {family.name: family for family in families}

    def _of_process(self) -> list[Measure]:
        """Return the measures of the process that this system has."""
        return [
            Measure(name, family.documentation, PROCESS[name], partial(self._process_value, name))
            for name, family in self._process.items()
            if name in PROCESS
        ]

    def _process_value(self, name: str) -> float:
        return float(self._process[name].samples[0].value)


def _of_kernel(kernel: Kernel) -> list[Measure]:
    def streams() -> dict[str, float]:
        # The other slots count single clients.
        return {name: count for name, count in kernel.streams.items() if " " not in name}

    def failing() -> dict[str, float]:
        return {name: float(not check()) for name, check in kernel.checks.items()}

    refusals = "Requests that the server refused, and connections that it closed to make room."
    bounds = "How often a limit was reached, by its setting."
    stalls = "Times that the event loop was stuck."
    return [
        Measure("streams_open", "Streams that are open.", "sum", streams, "module"),
        Measure("checks_failing", "1 while a check fails.", "max", failing, "check"),
        Measure("server_refusals", refusals, "counter", lambda: REFUSALS, "reason"),
        Measure("bounds_reached", bounds, "counter", lambda: BOUNDS, "bound"),
        Measure("draining", "1 while a process drains.", "max", lambda: kernel.drain.draining),
        Measure("event_loop_stalls", stalls, "counter", lambda: kernel.watchdog.stalls),
    ]


def _remove_dead_workers(directory: Path) -> None:
    """Remove dead workers' gauges; keep their counters."""
    for process in {int(path.stem.rpartition("_")[2]) for path in directory.glob("gauge_live*.db")}:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # Another worker is removing them.
                mark_process_dead(process, str(directory))  # type: ignore[no-untyped-call]
        except PermissionError:
            pass


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", include_in_schema=False)
@asks_for(SCOPE)
async def metrics(request: Request) -> Response:
    """Respond with the metrics of all workers."""
    require(request, SCOPE)
    of_app: Metrics = request.app.state.metrics
    content, media_type = await of_app.text(joined(request.headers, "accept"))
    return Response(content, media_type=media_type)
