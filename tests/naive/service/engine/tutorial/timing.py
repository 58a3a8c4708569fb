"""A middleware that measures the time until a response begins."""

import time
from typing import Any

from fastapi import Request
from starlette.middleware.base import BaseHTTPMiddleware


class Timed(BaseHTTPMiddleware):
    """For one path only: it swallows exceptions of streams, which would hide other traps."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_timed = scope.get("path") == "/timed"
        await (super().__call__ if is_timed else self.app)(scope, receive, send)

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        started = time.monotonic()
        response = await call_next(request)
        response.headers["X-Process-Time"] = str(time.monotonic() - started)
        return response
