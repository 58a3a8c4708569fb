"""Access in the OpenAPI document: the security schemes, and the scopes of each operation.

Source: OpenAPI Specification 3.1.0, sections 4.8.27 (Security Scheme Object) and 4.8.30.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from ..kernel.admission import Admission
from .middleware import is_public_route

SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}


def describe(app: FastAPI, pages: set[str], document: dict[str, Any]) -> None:
    """Add the schemes, and to every operation the scopes that it needs."""
    document.setdefault("components", {}).setdefault("securitySchemes", {}).update(SCHEMES)
    document.setdefault("security", [{name: []} for name in SCHEMES])
    for context in iter_route_contexts(app.routes):
        if not isinstance(context.original_route, APIRoute):
            continue
        item = document["paths"].get(context.path_format, {})
        for method in context.methods or ():
            if (operation := item.get(method.lower())) is None:
                continue
            if is_public_route(context, pages):
                operation.setdefault("security", [])
                continue
            operation["responses"].setdefault("401", {"description": "No valid credential."})
            if scopes := sorted({*scopes_of(context)}):
                operation.setdefault("security", [{name: scopes} for name in SCHEMES])
                operation["responses"].setdefault("403", {"description": "Not in your scopes."})


def scopes_of(context: RouteContext) -> Iterator[str]:
    """Yield the scopes that a path operation and its dependencies ask for."""
    if scope := getattr(context.endpoint, "scope", ""):
        yield scope
    yield from _scopes_of_dependant(context.dependant)


def _scopes_of_dependant(dependant: Dependant) -> Iterator[str]:
    yield from dependant.own_oauth_scopes or ()
    if isinstance(dependant.call, Admission) and dependant.call.scope:
        yield dependant.call.scope
    for each in dependant.dependencies:
        yield from _scopes_of_dependant(each)
