"""Traces by OpenTelemetry, through FastAPI's own support: one span per request.

With the extra `telemetry` installed, `OTEL_EXPORTER_OTLP_ENDPOINT` turns it on; the other variables
are those of OpenTelemetry's SDK. Source: OpenTelemetry semantic conventions for HTTP, server spans.
"""

from typing import Any

from opentelemetry import trace

from ..kernel.exchange import Exchange, Outcome
from . import redaction

#: Outcomes that the client or a deploy caused: FastAPI reports an unfinished response as an error.
#: The SDK never changes a status of OK.
_NO_ERRORS = {Outcome.CLIENT_ABORT, Outcome.SLOW_CLIENT, Outcome.TIMEOUT, Outcome.DRAINED}


def options() -> Any:
    """Return FastAPI's options.

    `operation_spans` would add several spans to each request. The metrics and the log of the engine
    have the measurements and the errors, and the log has the same trace id.
    """
    return {"auto_configure": True, "operation_spans": False, "metrics": False, "logs": False}


def begin(exchange: Exchange) -> None:
    """Keep secrets out of the span of a traced request, and keep its ids for the log."""
    scope = exchange.scope
    if "fastapi.telemetry" not in scope:
        return
    span = trace.get_current_span()
    context = span.get_span_context()
    if exchange.traceparent is None and context.is_valid:
        exchange.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    if redaction.is_credential(scope["path"]):
        span.set_attribute("url.path", redaction.HIDDEN)
    if scope.get("query_string"):
        span.set_attribute("url.query", redaction.query(scope["query_string"]))


def end(exchange: Exchange) -> None:
    """Add the outcome to the span, unless it ended with the response."""
    if "fastapi.telemetry" not in exchange.scope:
        return
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute("outcome", str(exchange.outcome))
        if exchange.outcome in _NO_ERRORS:
            span.set_status(trace.StatusCode.OK)
