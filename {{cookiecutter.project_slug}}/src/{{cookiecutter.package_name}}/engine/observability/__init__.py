"""Observability: what the service says of itself while it runs.

* `log`: one line per request when its response has ended, and all other lines in its form;
  `redaction`: what must not be in one.
* `metrics`: `GET /metrics`, also of the modules' own `Measure`s and of several workers.
* `tracing`: OpenTelemetry, one span per request, when its variables are set.
* `health`: `GET /health/live` and `/health/ready`.

Settings: `APP_LOG__…`, `OTEL_…`. Sources: Prometheus text format; W3C Trace Context.
"""

from fastapi import FastAPI

from ..kernel.exchange import Exchange
from ..kernel.kernel import Kernel
from . import health, log, metrics, tracing


def install(app: FastAPI) -> None:
    """Add the routes for orchestrators and monitors, and watch what begins and ends."""
    kernel: Kernel = app.state.kernel
    log.configure(app.state.settings.log)
    figures = app.state.metrics = metrics.Metrics(kernel)
    kernel.on_open += [tracing.begin, log.bind]

    def observe(exchange: Exchange) -> None:
        figures.observe(exchange)
        log.log_exchange(exchange)
        tracing.end(exchange)

    kernel.observe = observe
    app.include_router(health.router)
    app.include_router(metrics.router)


def add_index(app: FastAPI) -> None:
    """Say at `/` where to go on, unless a page is there."""
    app.add_api_route("/", health.index, methods=["GET", "HEAD"], include_in_schema=False)


telemetry = tracing.options

#: None: an owner uses its routes, its log and its variables.
__all__: list[str] = []
