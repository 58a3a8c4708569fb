"""The senders of requests, and their scopes.

Without the part `Access` every request is allowed, so the dependencies of the routes do nothing.
Sources: RFC 6750, section 3 (`WWW-Authenticate`); RFC 9110, sections 15.5.2 and 15.5.4.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection

from .kernel import Kernel
from .problem import Problem, ProblemType

T = TypeVar("T")
#: Names of keys and ids of principals: both may be parts of topics.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

#: The scope that includes all others, and the files, uploads and runs of all owners.
ADMIN = "admin"

UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    "The request has no valid credential",
    "The service does not know who sent the request: its credential is missing, unknown, expired or"
    " revoked. Send `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
)
FORBIDDEN = ProblemType(
    "forbidden",
    "Your credential does not include this",
    "The credential is valid, but does not include `scope`, which the request needs.",
)


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated sender of a request; `id` is stable and unique.

    The part `Access` authenticates requests. Without it, a dependency or middleware of the owner
    may set `request.state.principal`. Limits per client apply to the `id`, which is also the owner
    of files, uploads and runs.
    """

    id: str
    scopes: frozenset[str] = field(default=frozenset(), compare=False)
    #: Whether the sender only has a link of the principal: limits apply to the address then.
    is_guest: bool = field(default=False, compare=False)

    def may(self, scope: str) -> bool:
        """Whether the scopes include this one; a scope that ends with `*` includes a prefix."""
        return any(
            each in (scope, ADMIN) or (each.endswith("*") and scope.startswith(each[:-1]))
            for each in self.scopes
        )


def principal_of(connection: HTTPConnection) -> Principal | None:
    """Return the sender of a request, None if it is anonymous."""
    # `connection.state` would create an object for every download.
    principal: Principal | None = connection.scope.get("state", {}).get("principal")
    return principal


def require(connection: HTTPConnection, scope: str) -> None:
    """Raise Problem 401 for an anonymous sender, 403 for one without the scope."""
    kernel: Kernel = connection.scope["kernel"]
    if kernel.challenge is None or scope in kernel.open_scopes:
        return
    principal = principal_of(connection)
    if principal is None:
        raise unauthenticated(kernel)
    if not principal.may(scope):
        challenge = f'{kernel.challenge}, error="insufficient_scope", scope="{scope}"'
        headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
        detail = f"Your credential does not include the scope {scope}."
        raise Problem(403, detail, type=FORBIDDEN, headers=headers, scope=scope)


def unauthenticated(kernel: Kernel, detail: str = "", error: str = "") -> Problem:
    """Return Problem 401; `error` is a code of RFC 6750, section 3.1."""
    challenge = f'{kernel.challenge}, error="{error}"' if error else str(kernel.challenge)
    detail = detail or "This needs a credential."
    headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
    return Problem(401, detail, type=UNAUTHENTICATED, headers=headers)


async def current_principal(connection: HTTPConnection, scopes: SecurityScopes) -> Principal | None:
    """Return the sender, who needs the scopes: `Security(current_principal, scopes=["a:read"])`.

    None if the service has no access control. Raises Problem 401 and 403.
    """
    for scope in scopes.scopes:
        require(connection, scope)
    return principal_of(connection)


def owner_seen_by(connection: HTTPConnection) -> str | None:
    """Return the id of the owner whose files, uploads and runs the sender may see; None for all."""
    kernel: Kernel = connection.scope["kernel"]
    if kernel.challenge is None:
        return None
    principal = principal_of(connection)
    if principal is None:
        return ""  # On a public route; no principal has this id.
    return None if principal.may(ADMIN) else principal.id


def public(target: T) -> T:
    """Mark a path operation, or an application to be mounted, as one that needs no credential.

    @router.get("/hello")
    @public
    async def hello() -> str: ...
    """
    target.is_public = True  # type: ignore[attr-defined]
    return target


def asks_for(scope: str) -> Callable[[T], T]:
    """Document a scope that a path operation requires itself, without a dependency."""

    def mark(target: T) -> T:
        target.scope = scope  # type: ignore[attr-defined]
        return target

    return mark


def is_public(target: object) -> bool:
    """Whether a path operation or a mounted application was marked with `public`."""
    return getattr(target, "is_public", False) is True
