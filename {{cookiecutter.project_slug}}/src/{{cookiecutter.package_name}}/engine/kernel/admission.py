"""Admission: the number of streams that a module serves at once, in total and per client.

uvicorn's `limit_concurrency` counts idle sockets too, and its response is plain text.
"""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

from starlette.requests import HTTPConnection

from .access import principal_of, require
from .exchange import EVENTS, exchange_of
from .kernel import Kernel
from .problem import Problem, ProblemType

FULL = ProblemType(
    "too-many-streams",
    "Too many streams are open",
    "The number of open streams is limited for each part of the service, and this part has reached"
    " its limit. Try again after the seconds in `Retry-After`.",
)
CLIENT_FULL = ProblemType(
    "too-many-streams-of-client",
    "You have too many streams",
    "The number of streams that one client may have open at once is limited. A client is an"
    " authenticated user, or an address. Close a stream before you open another.",
)
_SOON = {"Retry-After": "1"}


def client_of(request: HTTPConnection) -> str:
    """Return the id of the sender, or the address of an anonymous one.

    An IPv6 address is replaced by its network (/64), because a host can use all addresses of it.
    The result is empty if the address is unknown; then no limit per client applies.
    """
    principal = principal_of(request)
    if principal is not None and not principal.is_guest:
        return principal.id
    client = request.scope.get("client")
    return _network_of(client[0]) if client else ""


@lru_cache
def _network_of(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped
    return str(mapped or IPv6Network((int(address), 64), strict=False))


class Admission:
    """A dependency that counts a request as a stream of a module until its response has ended.

    `module` is any name: `APP_STREAMING__MAX_STREAMS` applies to each, and metrics and log lines
    have it as a label. The sender needs `scope`, if there is one. Use it as
    `Depends(Admission("reports", "reports:read"))`.

    Raises Problem 503 with Retry-After when the service drains or the module is full, and Problem
    429 when the client has too many streams; 401 and 403 for a sender without the scope. An
    EventSource is admitted during the drain: its stream ends soon, and asks it to reconnect.
    """

    def __init__(self, module: str, scope: str = "") -> None:
        self.module = module
        self.scope = scope

    async def __call__(self, connection: HTTPConnection) -> None:
        kernel: Kernel = connection.scope["kernel"]
        if self.scope and kernel.challenge is not None:
            require(connection, self.scope)
        if kernel.drain.draining and not _is_event_source(connection):
            raise kernel.drain.refusal()
        admit(kernel, connection, self.module)


def _is_event_source(connection: HTTPConnection) -> bool:
    # It never reconnects after another status than 200 (WHATWG HTML, section 9.2.3).
    is_get = connection.scope.get("method") == "GET"
    return is_get and connection.headers.get("accept") == EVENTS


def admit(kernel: Kernel, connection: HTTPConnection, module: str) -> None:
    """Count a request as a stream of a module; raise Problem 503 or 429 at its limits."""
    limits = kernel.modules.get(module, kernel.limits)
    if kernel.streams[module] >= limits.max_streams:
        raise Problem(503, "Too many streams are open.", type=FULL, headers=_SOON)
    client = client_of(connection)
    slots = [module, f"{module} {client}"]
    if client and kernel.streams[slots[1]] >= limits.max_streams_per_client:
        raise Problem(429, "You have too many streams.", type=CLIENT_FULL, headers=_SOON)
    # The exchange releases the slots: a dependency with `yield` would add a third to the time of a
    # GET.
    exchange_of(connection.scope).enter(module, limits, slots)
