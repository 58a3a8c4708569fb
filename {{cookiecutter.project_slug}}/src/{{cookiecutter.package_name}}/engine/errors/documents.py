"""Problem documents (RFC 9457): what a client is told, and what stays in the log.

No input is echoed and no exception's text is repeated: both may hold what others must not see.
"""

from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException

from ..kernel.exchange import Exchange
from ..kernel.problem import Problem, title_of

MEDIA_TYPE = "application/problem+json"

#: A JSON schema; a document may have more members, which its type tells of.
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "For programs; `about:blank` when the status says all.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": "string"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                },
                "required": ["pointer", "detail", "code"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
}


def describe(error: HTTPException, exchange: Exchange) -> dict[str, Any]:
    """Return the document of an error; one that is no Problem has no type of its own."""
    title = title_of(error.status_code)
    document = {
        "type": "about:blank",
        "title": title,
        "status": error.status_code,
        "detail": error.detail or title,
        # Encoded as a URI is, whatever the client has sent.
        "instance": quote(exchange.scope["path"], safe="/:@!$&'()*+,;=~"),
        "request_id": exchange.request_id,
    }
    if exchange.trace_id:
        document["trace_id"] = exchange.trace_id
    if isinstance(error, Problem):
        if error.type is not None:
            document["type"] = uri_of(error.type.name, exchange)
            document["title"] = error.type.title
        document |= error.members
    return document


def uri_of(name: str, exchange: Exchange) -> str:
    """Return the URI of a type of problem: of its page, unless it is somebody else's."""
    if ":" in name:
        return name
    scope = exchange.scope
    base = scope["app"].state.settings.server.public_url or scope.get("root_path", "")
    return f"{base}/problems/{name}"
