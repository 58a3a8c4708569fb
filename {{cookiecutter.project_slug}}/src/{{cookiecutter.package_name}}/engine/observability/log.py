"""The log: one line per request when its response has ended, and all other lines in the same form.

`structlog.get_logger().info("…", key=value)` writes such a line, and so does every logger of the
standard library. Within a request both have its `request_id` (and `trace_id`), in threads as well.
JSON, one object per line, or text with colours (`APP_LOG__FORMAT`), on standard output.
"""

import asyncio
import json
import logging
import logging.config
import sys
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from ..kernel.exchange import Exchange, Outcome, StreamAborted
from ..settings import LogSettings
from . import redaction

#: Paths that machines request every few seconds.
PROBES = {"/health/live", "/health/ready", "/metrics"}
#: Loggers of servers, which report the exceptions of applications.
SERVERS = {"_granian", "uvicorn.error"}

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def configure(settings: LogSettings) -> None:
    """Set up structlog and the loggers of the standard library, unless this was done before.

    Logging is configured once per process, by its first application.
    """
    if not structlog.is_configured():
        structlog.configure(
            processors=[*_enriched(), _renderer(settings)],
            wrapper_class=structlog.make_filtering_bound_logger(settings.level),
            logger_factory=Output,
            cache_logger_on_first_use=True,
        )
    if not logging.root.handlers:
        logging.config.dictConfig(standard_library(settings))
    logging.getLogger("uvicorn.access").disabled = True  # It logs the secrets of queries.


def standard_library(settings: LogSettings) -> dict[str, Any]:
    """Return the configuration of the standard library's loggers, which uvicorn uses as its own."""
    level = settings.level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"lines": {"()": _Handler, "settings": settings}},
        "root": {"handlers": ["lines"], "level": level},
        "loggers": {
            # A level of its own: uvicorn compares it to decide whether it traces connections.
            "uvicorn.error": {"level": level},
            "uvicorn.error.websocket": {"level": "WARNING"},
            "watchfiles": {"level": "WARNING"},  # It would log the change of a log file.
        },
    }


def bind(exchange: Exchange) -> None:
    """Add the ids of a request to every line that is written in it from now on."""
    # uvicorn starts a pipelined request in the context of the one before.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
    if exchange.trace_id:
        structlog.contextvars.bind_contextvars(trace_id=exchange.trace_id)


def log_exchange(exchange: Exchange) -> None:
    """Write the line of an exchange that has ended; its ids are bound."""
    scope, started_at, route = exchange.scope, exchange.started_at, exchange.route
    first_byte_at = exchange.first_byte_at
    fields: dict[str, Any] = {
        "method": exchange.method,
        "route": route,
        "status": exchange.status,
        "outcome": exchange.outcome and exchange.outcome.value,
        "module": exchange.module,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "first_byte": None if first_byte_at is None else round(first_byte_at - started_at, 6),
        "duration": round(exchange.ended_at - started_at, 6),
        "client": (scope.get("client") or ("",))[0],
    }
    if scope["path"] != route:
        raw = scope.get("raw_path") or scope["path"].encode()
        path = redaction.path(route, raw, scope.get("path_params") or {})
        if path != route:
            fields["path"] = path
    if scope.get("query_string"):
        fields["query"] = redaction.query(scope["query_string"])
    log.log(_level(exchange, route), "request", **fields)


def _level(exchange: Exchange, route: str) -> int:
    if exchange.outcome is Outcome.SERVER_ERROR:
        return logging.ERROR
    if exchange.status == 503:
        return logging.WARNING  # Valid requests are refused.
    return logging.DEBUG if route in PROBES else logging.INFO


class Output:
    """Writes lines to standard output; no request fails when it is closed or full."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        try:
            output = sys.stdout.buffer
            output.write(line.encode("utf-8", "backslashreplace") + b"\n")
            output.flush()
        except (AttributeError, OSError, ValueError):
            pass  # There is no standard output, it is closed, or its disk is full.

    debug = info = warning = error = critical = exception = msg


class _Handler(logging.Handler):
    """Writes the records of the standard library in the form of structlog's lines."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._output = Output()
        without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        self.formatter = structlog.stdlib.ProcessorFormatter(
            processors=[without_meta, _renderer(settings)],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_enriched()],
        )

    def emit(self, record: logging.LogRecord) -> None:
        if _is_wanted(record):
            self._output.msg(self.format(record))


def _is_wanted(record: logging.LogRecord) -> bool:
    """Return False for a stream that the client aborted; report the cause of any other abort."""
    error = record.exc_info[1] if record.exc_info else None
    if record.name not in SERVERS:
        return True
    if isinstance(error, asyncio.CancelledError):
        return False  # The drain ended before this request.
    if not isinstance(error, StreamAborted):
        return True
    cause = error.__cause__
    if cause is not None:
        record.msg, record.args = "A stream was aborted", ()
        record.exc_info = (type(cause), cause, cause.__traceback__)
    return cause is not None


def _enriched() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_secrets,
    ]


def _without_secrets(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    for key in ("event", "exception"):
        if isinstance(event.get(key), str):
            event[key] = redaction.text(event[key]).rstrip()
    return event


def _renderer(settings: LogSettings) -> Processor:
    terminal = bool(sys.stdout) and sys.stdout.isatty()
    if settings.format == "json" or (settings.format == "auto" and not terminal):
        return as_json
    return structlog.dev.ConsoleRenderer(
        colors=terminal, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )


def as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    try:
        return to_json(event, inf_nan_mode="null", fallback=repr).decode()
    except (PydanticSerializationError, ValueError):  # Such as half of a surrogate pair.
        return json.dumps(event, default=repr, skipkeys=True)
