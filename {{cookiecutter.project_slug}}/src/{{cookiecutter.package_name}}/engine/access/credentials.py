"""The places where a request may have its credential.

* `Authorization: Bearer KEY` or `X-API-Key: KEY`;
* `?ticket=`, for `EventSource`, `<video>` and other clients that cannot send headers;
* `?signature=`, of a link that a holder of a key has made;
* the subprotocols `bearer, KEY` of a WebSocket, as browsers can set nothing else.

Sources: RFC 6750, section 2; RFC 6455, section 1.9 (subprotocols).
"""

from typing import Literal, NamedTuple
from urllib.parse import unquote_plus

from starlette.types import Scope

from ..kernel.problem import Problem
from .keys import TICKET
from .links import PREFIX

#: The subprotocol that is followed by a key; the route sees all others.
SUBPROTOCOL = "bearer"

Kind = Literal["key", "ticket", "signature"]
#: The parameters and the beginnings of their values; other values belong to the owner's routes.
_PARAMETERS: dict[bytes, tuple[str, Kind]] = {
    b"ticket": (TICKET, "ticket"),
    b"signature": (PREFIX, "signature"),
}


class Credential(NamedTuple):
    """The proof of a request that its sender may do something."""

    kind: Kind
    secret: str


def take_credential(scope: Scope) -> Credential | None:
    """Return the credential of a request, and remove it from its query and subprotocols.

    Raises Problem 400 if a request has several different ones.
    """
    found = {*_of_headers(scope)}
    if b"ticket=" in scope["query_string"] or b"signature=" in scope["query_string"]:
        found |= {*_of_query(scope)}
    if SUBPROTOCOL in (offered := [*scope.get("subprotocols", ())]):
        at = offered.index(SUBPROTOCOL)
        found |= {Credential("key", each) for each in offered[at + 1 : at + 2]}
        scope["subprotocols"] = offered[:at] + offered[at + 2 :]
    if len(found) > 1:
        raise Problem(400, "A request may have one credential only.")
    return found.pop() if found else None


def _of_headers(scope: Scope) -> list[Credential]:
    found = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":  # Others are meant for a proxy.
                found.append(Credential("key", secret.strip()))
        elif name == b"x-api-key":
            found.append(Credential("key", value.decode("latin-1").strip()))
    return found


def _of_query(scope: Scope) -> list[Credential]:
    found, others = [], []
    for parameter in scope["query_string"].split(b"&"):
        name, _, value = parameter.partition(b"=")
        prefix, kind = _PARAMETERS.get(name, ("", "key"))
        secret = unquote_plus(value.decode("latin-1"))
        if prefix and secret.startswith(prefix):
            found.append(Credential(kind, secret))
        else:
            others.append(parameter)
    scope["query_string"] = b"&".join(others)
    return found
