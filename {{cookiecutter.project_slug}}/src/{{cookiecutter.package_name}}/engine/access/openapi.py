"""The scopes of each route, in the OpenAPI document and in the output of `serve routes`.

Source: OpenAPI Specification 3.1.0, sections 4.8.27 (Security Scheme Object) and 4.8.30.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import WebSocketRoute

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


def needs(app: FastAPI, pages: set[str]) -> Iterator[str]:
    """Yield a line for every route with its methods, its path, and the scopes for it."""
    for context in iter_route_contexts(app.routes):
        is_websocket = isinstance(context.original_route, WebSocketRoute)
        usual = "WEBSOCKET" if is_websocket else "*"
        methods = ",".join(sorted(getattr(context, "methods", None) or [usual]))
        wanted = ", ".join(sorted({*scopes_of(context)})) or "any key"
        yield f"{methods} {context.path}: {'public' if is_public_route(context, pages) else wanted}"


def scopes_of(context: RouteContext) -> Iterator[str]:
    """Yield the scopes that a path operation and its dependencies ask for."""
    if scope := getattr(context.endpoint, "scope", ""):
        yield scope
    if dependant := getattr(context, "dependant", None):
        yield from _scopes_of_dependant(dependant)


def _scopes_of_dependant(dependant: Dependant) -> Iterator[str]:
    yield from dependant.own_oauth_scopes or ()
    if isinstance(dependant.call, Admission) and dependant.call.scope:
        yield dependant.call.scope
    for each in dependant.dependencies:
        yield from _scopes_of_dependant(each)
