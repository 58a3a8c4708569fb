"""The outermost middleware: it opens an exchange for each request, and reports how it ended.

It goes around every other middleware that the application adds, but that of CORS, which answers
the preflights by itself. Sources: ASGI 3.0; W3C Trace Context, section 3.2.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .exchange import Exchange
from .fields import ambiguous, members, oversized
from .kernel import Kernel
from .measures import BOUNDS
from .outcomes import StreamAborted
from .problem import Problem, ProblemType

TOO_LONG = ProblemType(
    "field-too-long",
    "A header field is too long",
    "A field of the request has more bytes than are read of it: `field` is its name, `limit` says"
    " how many it may have, in all its lines together. Leave out of it what is not needed.",
)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
#: W3C Trace Context, section 3.2; a version that is not known yet may be longer.
_TRACEPARENT = re.compile(
    rb"(?!ff|00-.{52}.)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


class ExchangeMiddleware:
    """Pure ASGI: gives every request its `Exchange` and reports how it ended."""

    def __init__(self, app: ASGIApp, kernel: Kernel) -> None:
        self.app = app
        self.kernel = kernel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        of_server = len(scope)
        # Of the service that this one is mounted in.
        outer = scope.get("exchange"), scope.get("kernel")
        exchange = self._open(scope, receive, send)
        error: BaseException | None = None
        try:
            app = self.app
            if flaw := _flaw_of(scope):
                app = self.kernel.response_to(flaw, exchange)
            await app(scope, exchange.receive, exchange.send)
            if exchange.channel is not None and exchange.channel.layers is None:
                # What the framework keeps for a request is a tenth of what its client costs.
                for name in {*list(scope)[of_server:]} - {"app", "exchange", "kernel", "route"}:
                    del scope[name]
                await exchange.channel.run()
        except (ClientDisconnect, WebSocketDisconnect) as exc:
            error = exc  # Nobody is left to answer, and nothing is wrong with the service.
        except BaseException as exc:
            error = exc
            # An owner's handler is told of responses that have begun, too, as Starlette's is.
            response = await self._last_response(exc, scope, exchange)
            if not exchange.status:
                # Sent here, inside this wrapper, so that a 500 too lingers and has its id.
                # The server will close: nobody shall send the next request on this connection.
                response.headers["Connection"] = "close"
                await response(scope, exchange.receive, exchange.send)
                if isinstance(exc, StreamAborted):
                    return  # The request's fault, and answered.
            raise
        finally:
            if exchange.channel is not None:
                exchange.channel.close()
                exchange.channel = None  # Each knows the other: nothing waits for the collector.
            exchange.broken = None  # Its traceback knows the exchange.
            exchange.ended_at = time.monotonic()
            exchange.outcome = exchange.resolve(error)
            exchange.leave()
            self.kernel.observe(exchange)
            # Each knows the other, and everything of the request: only the collector would free it.
            scope["exchange"], scope["kernel"] = outer

    async def _last_response(
        self, error: BaseException, scope: Scope, exchange: Exchange
    ) -> Response:
        handler = self.kernel.last_handler
        is_bug = isinstance(error, Exception) and not isinstance(error, StreamAborted)
        if handler is None or not is_bug or scope["type"] != "http":
            return self.kernel.response_to(self._last_word(error), exchange)
        return await response_of(handler, Request(scope), error)

    def _last_word(self, error: BaseException) -> Problem:
        if isinstance(error, asyncio.CancelledError):  # The server ends, and this took too long.
            return self.kernel.drain.refusal()
        if isinstance(error, StreamAborted) and isinstance(error.__cause__, Problem):
            return error.__cause__  # Of a body that nobody had read, when it was to be answered.
        return Problem(500)

    def _open(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        offered = headers.get(b"x-request-id", b"")
        if _REQUEST_ID.fullmatch(offered):
            request_id = offered.decode()
        else:
            request_id = f"{random.getrandbits(64):016x}"  # A name, and no secret.
        exchange = Exchange(
            scope=scope,
            drain=self.kernel.drain,
            streams=self.kernel.streams,
            headers=self.kernel.headers.get(scope.get("scheme", "http"), ()),
            _receive=receive,
            _send=send,
            limits=self.kernel.limits,
            traceparent=_traceparent(scope) if b"traceparent" in headers else None,
            request_id=request_id,
            declared=int(length) if length.isdigit() else None,
            body_complete=length in (b"", b"0") and b"transfer-encoding" not in headers,
            expects_continue=(
                b"expect" in headers and b"100-continue" in members(scope["headers"], b"expect")
            ),
        )
        scope["exchange"], scope["kernel"] = exchange, self.kernel
        for begin in self.kernel.on_open:
            begin(exchange)
        return exchange


class BreakMiddleware:
    """Pure ASGI, inside of the owner's middleware: notes when a response that has begun fails.

    `BaseHTTPMiddleware` ends such a response as if it were whole, and raises after that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except BaseException as error:
            if begun:
                scope["exchange"].broken = error
            raise


async def response_of(
    handler: Callable[..., Any], request: Request, error: BaseException
) -> Response:
    """Call an exception handler as Starlette does: in a thread, unless it is asynchronous."""
    if iscoroutinefunction(handler):
        answer = handler(request, error)
    else:
        answer = await run_in_threadpool(handler, request, error)
    response: Response = await answer if isawaitable(answer) else answer
    return response


def _flaw_of(scope: Scope) -> Problem | None:
    """Return why a request is refused for its header fields, whatever it asks for."""
    if long := oversized(scope["headers"]):
        name, limit = long
        BOUNDS["streaming.max_field"] += 1
        detail = f"The field `{name}` may have at most {limit} bytes."
        return Problem(431, detail, type=TOO_LONG, field=name, limit=limit)
    if twice := ambiguous(scope["headers"]):
        return Problem(400, f"The field `{twice}` comes twice, with different values.")
    return None


def _traceparent(scope: Scope) -> str | None:
    fields = [value for name, value in scope["headers"] if name == b"traceparent"]
    known = len(fields) == 1 and _TRACEPARENT.fullmatch(fields[0])
    return fields[0].decode("latin-1") if known else None
