"""Admission: how many streams a module carries at once, and none while draining.

uvicorn's `limit_concurrency` counts idle sockets and answers text/plain; this counts streams.
"""

from starlette.requests import HTTPConnection

from .exchange import exchange_of
from .principal import client_of
from .problem import Problem


class Admission:
    """A dependency that holds one of a module's stream slots until the response has ended.

    Raises Problem 503 with Retry-After when the service drains or the module is full, and Problem
    429 when the client itself has too many.
    """

    def __init__(self, module: str) -> None:
        self.module = module

    async def __call__(self, connection: HTTPConnection) -> None:
        exchange = exchange_of(connection.scope)
        kernel = exchange.kernel
        if kernel.drain.draining:
            raise kernel.drain.refusal()
        limits = kernel.modules.get(self.module, kernel.limits)
        if kernel.streams[self.module] >= limits.max_streams:
            raise Problem(503, "Too many streams are open.", headers={"Retry-After": "1"})
        slots = [self.module]
        if limits.max_streams_per_client is not None:
            slots.append(f"{self.module} {client_of(connection)}")
            if kernel.streams[slots[1]] >= limits.max_streams_per_client:
                raise Problem(429, "You have too many streams.", headers={"Retry-After": "1"})
        # A `yield` instead would cost a third of a GET.
        exchange.enter(self.module, limits, slots)
