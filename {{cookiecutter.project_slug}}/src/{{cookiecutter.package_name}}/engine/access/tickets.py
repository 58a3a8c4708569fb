"""`GET /access`: the principal of a key, and `POST /tickets`: a one-time ticket.

A ticket is for a client that cannot send headers, such as `EventSource`:

    const { ticket } = await post("/tickets", { path: "/topics/orders/events" });
    new EventSource(`/topics/orders/events?ticket=${ticket}`);

A ticket is valid for one request with this method and path, for `APP_ACCESS__TICKET_AGE`, and on
every worker. It allows what the key allows that asked for it. A client that reconnects asks for
another one.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from ..kernel.access import FORBIDDEN, Principal, current_principal
from ..kernel.problem import Problem
from ..kernel.work import current
from .middleware import Authenticator
from .store import Ticket

router = APIRouter(tags=["access"])


class Sender(BaseModel):
    """The principal of a request, which owns the files and runs that it creates, and its scopes."""

    principal: str
    scopes: list[str]


class Wanted(BaseModel):
    """The request that a ticket is for."""

    path: Annotated[str, Field(pattern=r"^/[^?#]*$", max_length=2000)]
    """The path without a query, as the service sees it (percent-decoded)."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """`GET` also for a WebSocket."""


class Issued(BaseModel):
    """A ticket: send it as the query parameter `ticket`."""

    ticket: str
    expires_in: float
    """Seconds."""


@router.get("/access")
async def describe_sender(
    response: Response, principal: Annotated[Principal, Depends(current_principal)]
) -> Sender:
    """Return the principal and the scopes of the credential that the request has."""
    response.headers["Cache-Control"] = "no-store"
    return Sender(principal=principal.id, scopes=sorted(principal.scopes))


@router.post("/tickets", status_code=201, dependencies=[Depends(current_principal)])
async def create_ticket(wanted: Wanted, request: Request) -> Issued:
    """Return a ticket for one request, which sends it as `?ticket=` instead of a header."""
    authenticator: Authenticator = request.app.state.authenticator
    key = current.get().credential
    if not key:  # The request itself was authenticated with a link.
        raise Problem(403, "Only the holder of a key gets tickets.", type=FORBIDDEN)
    if wanted.path == request.scope["path"]:
        raise Problem(403, "A ticket cannot be for another ticket.", type=FORBIDDEN)
    seconds = authenticator.settings.ticket_age
    ticket = Ticket(key, wanted.method, wanted.path)
    secret = await authenticator.call(authenticator.store.issue, ticket, seconds)
    return Issued(ticket=secret, expires_in=seconds)
