"""Admission: how many streams a module carries at once, and none while draining.

uvicorn's `limit_concurrency` counts idle sockets and answers text/plain; this counts streams.
"""

from starlette.requests import HTTPConnection

from .exchange import exchange_of
from .kernel import kernel_of
from .principal import client_of
from .problem import Problem, ProblemType

FULL = ProblemType(
    "too-many-streams",
    "Too many streams are open",
    "This part of the service carries as many streams as it may. Come back after the seconds that"
    " `Retry-After` says.",
)
CLIENT_FULL = ProblemType(
    "too-many-streams-of-client",
    "You have too many streams",
    "One sender, or one address, may have only so many streams at once. End one before you begin"
    " the next.",
)
_SOON = {"Retry-After": "1"}


class Admission:
    """A dependency that counts a request as a stream of a module until its response has ended.

    `module` is a name of yours; `APP_STREAMING__MAX_STREAMS` holds for each, and metrics and the
    log have it. Use it as `Depends(Admission("reports"))`.

    Raises Problem 503 with Retry-After when the service drains or the module is full, and Problem
    429 when the client itself has too many.
    """

    def __init__(self, module: str) -> None:
        self.module = module

    async def __call__(self, connection: HTTPConnection) -> None:
        kernel = kernel_of(connection.scope)
        if kernel.drain.draining:
            raise kernel.drain.refusal()
        limits = kernel.modules.get(self.module, kernel.limits)
        if kernel.streams[self.module] >= limits.max_streams:
            raise Problem(503, "Too many streams are open.", type=FULL, headers=_SOON)
        slots = [self.module]
        if limits.max_streams_per_client is not None:
            slots.append(f"{self.module} {client_of(connection)}")
            if kernel.streams[slots[1]] >= limits.max_streams_per_client:
                raise Problem(429, "You have too many streams.", type=CLIENT_FULL, headers=_SOON)
        # A `yield` instead would cost a third of a GET.
        exchange_of(connection.scope).enter(self.module, limits, slots)
