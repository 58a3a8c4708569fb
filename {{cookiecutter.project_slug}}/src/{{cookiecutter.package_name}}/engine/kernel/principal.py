"""The Principal slot: who sent a request, as far as anything has found out.

Nothing in the kernel fills it; a module that authenticates sets `request.state.principal`, and
whoever needs an owner reads it here.
"""

from dataclasses import dataclass

from starlette.requests import HTTPConnection


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated sender of a request; `id` is stable and unique.

    A dependency or middleware that authenticates sets `request.state.principal`. Limits per client
    and the owners of files count by it then, and by the address otherwise.
    """

    id: str


def principal_of(request: HTTPConnection) -> Principal | None:
    """Return the sender of a request, None when it is anonymous."""
    principal: Principal | None = getattr(request.state, "principal", None)
    return principal


def client_of(request: HTTPConnection) -> str:
    """Return who counts as one client: the sender, or the address of an anonymous one."""
    principal = principal_of(request)
    if principal is not None:
        return principal.id
    return request.client.host if request.client else ""
