"""The part of an application that authenticates requests."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, ClassVar

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.middleware import Middleware

from ..kernel.access import ADMIN, FORBIDDEN, UNAUTHENTICATED
from ..kernel.kernel import Kernel, Measure
from ..kernel.origins import is_local
from ..kernel.part import Part
from ..kernel.problem import Problem
from ..kernel.threads import in_thread, repeating
from . import commands, links, openapi, tickets
from .database import bucket_of, open_database
from .middleware import TOO_MANY_FAILURES, Authentication, Authenticator, PublicRoutes
from .settings import AccessSettings
from .store import KeyStore

#: Seconds between two looks at the database: a revoked key is refused within two of them.
REFRESH_SECONDS = 0.4
#: Seconds after which the counts of wrong credentials are deleted.
MINUTE = 60.0
#: The name of the key that the first start creates.
FIRST_KEY = "first"
CHALLENGE = 'Bearer realm="api"'


class Access(Part):
    """API keys with roles and scopes: `GET /access`, `POST /tickets`; `serve keys`, `serve routes`.

    Every route that is not marked with `public` needs a key. Settings: `APP_ACCESS__…`.
    """

    rank = -10  # Before all that has owners.
    sections: ClassVar[dict[str, Any]] = {"access": AccessSettings}
    problem_types = (FORBIDDEN, TOO_MANY_FAILURES, UNAUTHENTICATED)

    def __init__(self, roles: Mapping[str, Iterable[str]]) -> None:
        """`roles` are the scopes of each role; keys name roles, so a change applies to all keys."""
        self._roles = {ADMIN: frozenset({ADMIN})} | {
            role: frozenset(scopes) for role, scopes in roles.items()
        }
        self.commands = {"keys": self._run_command, "routes": self._list_routes}

    def _scopes_of(self, grants: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self._roles.get(each, {each}) for each in grants))

    def _open(self, settings: Any) -> KeyStore:
        """Open the database, or exit with one line."""
        access: AccessSettings = settings.access
        try:
            store = KeyStore(open_database(settings), self._scopes_of)
            if not store.secrets:
                store.rotate(access.link_age)
        except (OSError, sqlite3.Error) as error:
            url = bucket_of(settings)
            name = "APP_STORAGE__URL" if url else "APP_ACCESS__DATABASE"
            sys.exit(f"{name}: {url or access.database} cannot be used: {error}")
        return store

    def _run_command(self, settings: Any, arguments: list[str]) -> None:
        access: AccessSettings = settings.access

        def adopt(owner: str) -> None:
            for part in self._app.parts:
                part.adopt(settings, owner)

        with closing(self._open(settings)) as store:
            commands.run(store, self._roles, access.link_age, adopt, arguments)

    def _list_routes(self, settings: Any, arguments: list[str]) -> None:
        lines = openapi.needs(self._app, _pages(self._app, settings.access))
        for line in dict.fromkeys(lines):  # Some routes share a path.
            sys.stdout.write(f"{line}\n")

    def check(self, settings: Any) -> None:
        self._open(settings).close()

    def prepare(self, app: Any) -> None:
        """Explain how to create the first key, if `serve` does not create it."""
        store = self._open(app.settings)
        if not store.keys and not _is_for_this_machine(app):
            sys.stderr.write("There is no API key yet: `serve keys create NAME admin` prints one\n")
        store.close()

    def listening(self, app: Any, port: int) -> None:
        """Create the first key of a service for this machine, and print it once."""
        store: KeyStore = app.state.authenticator.store
        store.refresh()
        if store.keys or not _is_for_this_machine(app):
            return
        with suppress(ValueError):  # Another worker has created it.
            key = store.create(ADMIN, [ADMIN], FIRST_KEY)
            sys.stderr.write(_welcome(app, port, key))

    def move(self, source: Any, target: Any) -> int:
        moved: int = import_module(f"{__package__}.bucket").move(source, target)
        return moved

    def add_to(self, app: Any) -> None:
        kernel: Kernel = app.state.kernel
        settings: AccessSettings = app.state.settings.access
        kernel.challenge = CHALLENGE
        self._app = app
        pages = _pages(app, settings)
        if settings.public_metrics:
            kernel.open_scopes.add("metrics:read")
        routes = PublicRoutes(app, pages)
        kernel.layers.append(Middleware(Authentication, service=app, routes=routes))
        kernel.on_openapi.append(partial(openapi.describe, app, pages))
        app.include_router(tickets.router)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        kernel, settings = app.state.kernel, app.state.settings.access
        store = await asyncio.to_thread(self._open, app.state.settings)
        authenticator = app.state.authenticator = Authenticator(store, kernel, settings)
        help_, read = "Requests with a wrong credential.", lambda: authenticator.refused
        kernel.measures.append(Measure("access_refused_total", help_, "counter", read, "reason"))

        def sign(path: str, owner: str, seconds: float) -> tuple[str, float]:
            seconds = min(seconds, settings.link_age)
            return links.sign(store.secrets, path, owner, seconds), seconds

        async def refresh() -> None:
            known = store.keys
            with suppress(Problem):  # It was logged.
                await authenticator.look()
            if store.keys is not known:
                authenticator.end_invalid()

        async def expire() -> None:  # Even while the database does not respond.
            authenticator.end_invalid()

        async def forgive() -> None:
            authenticator.failures.clear()

        kernel.sign = sign
        try:
            async with (
                repeating(REFRESH_SECONDS, refresh),
                repeating(REFRESH_SECONDS, expire),
                repeating(MINUTE, forgive),
            ):
                yield
        finally:
            kernel.sign = None
            await in_thread(None, store.close)


def _pages(app: FastAPI, settings: AccessSettings) -> set[str]:
    """Return the paths of the engine's pages that the settings make public."""
    pages = {"/metrics"} if settings.public_metrics else set()
    if settings.public_docs and app.openapi_url:
        url = PurePosixPath(app.openapi_url)
        pages |= {app.openapi_url, str(url.with_name(f"{url.stem}-3.2{url.suffix}"))}
        found = {app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
        found |= {f"{app.docs_url or app.redoc_url}/assets"}
        pages |= {each for each in found if each}
    return pages


def _is_for_this_machine(app: Any) -> bool:
    """Whether only clients on this machine use the service, such as during development."""
    server = app.settings.server
    return is_local(server.host) and not server.public_url


def _welcome(app: Any, port: int, key: str) -> str:
    """Return lines with a key, and a link to the owner's page, which takes it from the fragment."""
    text = f"This is your API key, which is not shown again:\n{key}\n"
    engine = __name__.rpartition(".access.")[0]
    pages = [each for each in iter_route_contexts(app.routes) if each.path == "/"]
    if not pages or getattr(pages[0].endpoint, "__module__", engine).startswith(engine):
        return text
    host = app.settings.server.host
    return f"{text}Open http://{f'[{host}]' if ':' in host else host}:{port}/#key={key}\n"
