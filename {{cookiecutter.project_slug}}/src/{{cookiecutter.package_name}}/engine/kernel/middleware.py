"""The outermost middleware: it opens an exchange for each request, and reports its outcome.

Only the CORS middleware, which responds to preflights, is outside of it. Sources: ASGI 3.0; W3C
Trace Context, section 3.2.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .exchange import DetachedResponse, Exchange, StreamAborted
from .fields import members, problem_of
from .guard import ResponseGuard
from .kernel import Kernel
from .problem import Problem
from .socket_guard import WebSocketGuard
from .work import Guard, current

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
#: W3C Trace Context, section 3.2; the values of future versions may be longer.
_TRACEPARENT = re.compile(
    rb"(?!ff|00-.{52}.)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


class ExchangeMiddleware:
    """Pure ASGI: gives every request its `Exchange`, and reports its outcome."""

    def __init__(self, app: ASGIApp, kernel: Kernel) -> None:
        self.app = app
        self.kernel = kernel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        of_server = len(scope)
        # The exchange and kernel of an outer service, if this one is mounted in it.
        outer = scope.get("exchange"), scope.get("kernel")
        exchange = self._open(scope, receive, send)
        error: BaseException | None = None
        kind = ResponseGuard if scope["type"] == "http" else WebSocketGuard
        guard = kind(self.kernel, exchange)
        token = current.set(guard)
        try:
            app = self.app
            if problem := problem_of(scope["headers"]):
                app = self.kernel.response_to(problem, exchange)
            await app(scope, guard.receive, guard.send)
            if guard.reason is not None:
                raise guard.reason  # The application has suppressed the cancellation.
            if exchange.channel is not None and exchange.channel.layers is None:
                await _run_detached(exchange.channel, scope, of_server)
        except BaseException as exc:
            error = guard.cause_of(exc)
            guard.close()
            # A client that has left is no failure of the service.
            has_left = isinstance(error, (ClientDisconnect, WebSocketDisconnect))
            if not has_left and await self._fail(error, scope, guard):
                error = None
        finally:
            current.reset(token)
            try:
                if guard.sources or guard in self.kernel.channels:
                    await guard.end()
            finally:
                if exchange.channel is not None:
                    exchange.channel.close()
                exchange.ended_at = time.monotonic()
                exchange.outcome = exchange.resolve(error)
                exchange.leave()
                self.kernel.observe(exchange)
                # Break the reference cycles, so that memory is freed at once.
                exchange.channel = exchange.broken = None
                scope["exchange"], scope["kernel"] = outer
                if guard.background is not None:
                    await guard.run_background()

    async def _fail(self, error: BaseException, scope: Scope, guard: Guard) -> bool:
        """Respond to an error; return whether a handler of the application has done so.

        Raises the error if it is a bug, or the response has begun: the server then aborts it.
        """
        exchange = guard.exchange
        handler = handler_of(scope, error)
        # Like Starlette, call the owner's handler even after the response has begun.
        response = await self._last_response(error, scope, exchange, handler)
        if not exchange.status:
            # Send it through the exchange, so that a 500 has a request id and the body is read for
            # a while. The server closes the connection after it, so the client must not send
            # another request on it.
            response.headers["Connection"] = "close"
            await response(scope, exchange.receive, exchange.send)
            if handler is not None or isinstance(error, StreamAborted):
                return handler is not None
        elif exchange.response_complete and not exchange.remaining and scope["type"] == "http":
            # A background task or a dependency: the next response must not be aborted.
            logger.error("A request failed after its response", exc_info=error)
            return False
        elif not isinstance(error, StreamAborted):
            await guard.report(error)
            raise StreamAborted(exchange.request_id) from error
        raise error

    async def _last_response(
        self,
        error: BaseException,
        scope: Scope,
        exchange: Exchange,
        handler: Callable[..., Any] | None,
    ) -> Response:
        is_bug = isinstance(error, Exception) and not isinstance(error, StreamAborted)
        if handler is None and is_bug and scope["type"] == "http":
            handler = self.kernel.last_handler
        if handler is None:
            return self.kernel.response_to(self._last_problem(error), exchange)
        return await response_of(handler, Request(scope), error)

    def _last_problem(self, error: BaseException) -> Problem:
        if isinstance(error, asyncio.CancelledError):  # By the server, at the end of the drain.
            return self.kernel.drain.refusal()
        if isinstance(error, StreamAborted) and isinstance(error.__cause__, Problem):
            return error.__cause__  # From the rest of a request body.
        return Problem.of(error)

    def _open(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        offered = headers.get(b"x-request-id", b"")
        is_usable = _REQUEST_ID.fullmatch(offered) is not None
        exchange = Exchange(
            scope=scope,
            drain=self.kernel.drain,
            streams=self.kernel.streams,
            templates=self.kernel.templates,
            headers=self.kernel.headers.get(scope.get("scheme", "http"), ()),
            _receive=receive,
            _send=send,
            limits=self.kernel.limits,
            traceparent=_traceparent(scope) if b"traceparent" in headers else None,
            request_id=offered.decode() if is_usable else f"{random.getrandbits(64):016x}",
            declared=int(length) if length.isdigit() else None,
            body_complete=length in (b"", b"0") and b"transfer-encoding" not in headers,
            expects_continue=(
                b"expect" in headers and b"100-continue" in members(scope["headers"], b"expect")
            ),
        )
        scope["exchange"], scope["kernel"] = exchange, self.kernel
        # `send` raises an OSError when the client has left, so Starlette's responses need not read
        # from `receive`, where they would take the chunks of a request body.
        scope["asgi"] = {**scope.get("asgi", {}), "spec_version": "2.4"}
        for begin in self.kernel.on_open:
            begin(exchange)
        return exchange


class BreakMiddleware:
    """Pure ASGI, inside of the owner's middleware: records the failure of a response in progress.

    `BaseHTTPMiddleware` ends such a response as if it were complete, and raises after that.
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
            exchange = scope.get("exchange")  # None in an application without the engine.
            if begun and exchange is not None and exchange.broken is None:
                exchange.broken = error
            raise


def handler_of(scope: Scope, error: BaseException) -> Callable[..., Any] | None:
    """Return the application's handler of an error that was raised after its router."""
    if scope["type"] != "http" or isinstance(error, StreamAborted):
        return None
    handlers = scope["app"].exception_handlers if "app" in scope else {}
    keys: list[Any] = [error.status_code] if isinstance(error, HTTPException) else []
    keys += [kind for kind in type(error).__mro__ if kind is not Exception]
    return next((handlers[key] for key in keys if key in handlers), None)


async def response_of(
    handler: Callable[..., Any], request: Request, error: BaseException
) -> Response:
    """Call an exception handler like Starlette: in a thread, unless it is asynchronous."""
    if iscoroutinefunction(handler):
        answer = handler(request, error)
    else:
        answer = await run_in_threadpool(handler, request, error)
    response: Response = await answer if isawaitable(answer) else answer
    return response


async def _run_detached(channel: DetachedResponse, scope: Scope, of_server: int) -> None:
    # The framework's entries in the scope take ten times the memory of a channel.
    for name in {*list(scope)[of_server:]} - {"app", "exchange", "kernel", "route", "state"}:
        del scope[name]
    await channel.run()


def _traceparent(scope: Scope) -> str | None:
    fields = [value for name, value in scope["headers"] if name == b"traceparent"]
    known = len(fields) == 1 and _TRACEPARENT.fullmatch(fields[0])
    return fields[0].decode("latin-1") if known else None
