"""An access log written at the start of the response, and a span for every message."""

from types import SimpleNamespace
from typing import Any

import structlog
from opentelemetry.trace import get_tracer
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

logger = structlog.get_logger()


class AccessLog:
    """Log a request when its response begins, with its whole URL.

    The kernel, which tests read, receives the real outcome, so that each test fails because of
    its own trap.
    """

    def __init__(self, app: Any, kernel: Any, provider: Any) -> None:
        self.app = app
        self.kernel = kernel
        self.tracer = get_tracer("tutorial", tracer_provider=provider)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        exchange = SimpleNamespace(
            method=scope.get("method", "WEBSOCKET"), route="", status=0, outcome="complete",
            bytes_in=0, bytes_out=0, started_at=0.0, first_byte_at=0.0, ended_at=0.0,
            request_id="", module="", trace_id="", traceparent=None, scope=scope,
        )  # fmt: skip
        ended = False

        async def watched_receive() -> Any:
            message = await receive()
            exchange.bytes_in += len(message.get("body", b""))
            if message["type"].endswith(".disconnect") and not ended:
                exchange.outcome = "client_abort"
            return message

        async def watched_send(message: Any) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                log(exchange, scope)
            exchange.bytes_out += len(message.get("body", b""))
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            with self.tracer.start_as_current_span("http send", attributes=attributes(scope)):
                await send(message)

        try:
            await self.app(scope, watched_receive, watched_send)
        except Exception as error:
            is_gone = isinstance(error, ClientDisconnect | WebSocketDisconnect)
            exchange.outcome = "client_abort" if is_gone else "server_error"
            if not exchange.status:
                exchange.status = 500
                log(exchange, scope)
            raise
        finally:
            exchange.route = getattr(scope.get("route"), "path", "").replace(":path", "")
            path = scope.get("path", "/no")
            if "endpoint" not in scope and not path.startswith("/no"):
                print(
                    "no such route:", exchange.method, path
                )  # Checked by the test of the template.
            if scope["type"] != "lifespan":
                self.kernel.observe(exchange)


def log(exchange: Any, scope: Any) -> None:
    logger.info(
        "request",
        method=exchange.method,
        route=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        status=exchange.status,
        outcome="complete",
        bytes_in=0,
        bytes_out=0,
        first_byte=0.0,
        duration=0.0,
    )


def attributes(scope: Any) -> dict[str, str]:
    query = scope.get("query_string", b"").decode()
    return {"http.route": getattr(scope.get("route"), "path", ""), "url.query": query}
