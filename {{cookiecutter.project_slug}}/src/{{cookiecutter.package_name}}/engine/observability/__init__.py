"""Observability: the log, metrics, traces and health of the running service.

* `log`: one line per request when its response has ended, and all other lines in its form;
  `redaction`: keeps secrets out of the lines.
* `metrics`: `GET /metrics`, with the `Measure`s of modules and the metrics of all workers.
* `tracing`: OpenTelemetry, one span per request, if its variables are set.
* `health`: `GET /health/live` and `/health/ready`.

Settings: `APP_LOG__…`, `OTEL_…`. Sources: Prometheus text format; W3C Trace Context.
"""

from fastapi import FastAPI

from ..kernel.exchange import Exchange
from ..kernel.kernel import Kernel
from . import health, log, metrics, tracing


def install(app: FastAPI) -> None:
    """Add the routes for orchestrators and monitors, and observe all requests."""
    kernel: Kernel = app.state.kernel
    log.configure(app.state.settings.log)
    of_app = app.state.metrics = metrics.Metrics(kernel)
    kernel.on_open += [tracing.begin, log.bind]

    def observe(exchange: Exchange) -> None:
        of_app.observe(exchange)
        log.log_exchange(exchange)
        tracing.end(exchange)

    kernel.observe = observe
    app.include_router(health.router)
    app.include_router(metrics.router)


def add_index(app: FastAPI) -> None:
    """Add a response at `/`, unless the service has one."""
    app.add_api_route("/", health.index, methods=["GET", "HEAD"], include_in_schema=False)


telemetry = tracing.options

#: Nothing is public: an owner uses the routes, the log and environment variables.
__all__: list[str] = []
