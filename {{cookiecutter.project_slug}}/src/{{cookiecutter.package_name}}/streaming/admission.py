"""Admission: how many streams a module carries at once, and none while draining.

uvicorn's `limit_concurrency` counts idle sockets and answers text/plain; this counts streams.
"""

from fastapi import Request

from .exchange import exchange_of
from .problem import Problem


class Admission:
    """A dependency that holds one of a module's stream slots until the response has ended.

    Raises Problem 503 with Retry-After when the service drains or the module is full.
    """

    def __init__(self, module: str) -> None:
        self.module = module

    async def __call__(self, request: Request) -> None:
        exchange = exchange_of(request.scope)
        kernel = exchange.kernel
        if kernel.drain.draining:
            raise kernel.drain.refusal()
        if kernel.streams[self.module] >= kernel.limits.max_streams:
            raise Problem(503, "Too many streams are open.", headers={"Retry-After": "1"})
        kernel.streams[self.module] += 1
        exchange.admitted_to.append(self.module)  # A `yield` instead would cost a third of a GET.
