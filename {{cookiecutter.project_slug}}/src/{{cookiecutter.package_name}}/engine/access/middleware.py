"""The middleware that authenticates every request, before the owner's middleware."""

import asyncio
import logging
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakSet

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from ..kernel.access import Principal, is_public, unauthenticated
from ..kernel.admission import client_of
from ..kernel.exchange import exchange_of
from ..kernel.kernel import BOUNDS, Kernel, kernel_of
from ..kernel.part import opened
from ..kernel.problem import Problem, ProblemType
from ..kernel.threads import in_thread
from ..kernel.work import Guard, current
from .credentials import SUBPROTOCOL, Credential, take_credential
from .keys import Key, digest_of
from .links import METHODS, principal_of_link, secret_of
from .settings import AccessSettings
from .store import KeyStore

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
TOO_MANY_FAILURES = ProblemType(
    "too-many-failures",
    "Too many wrong credentials",
    "The address has sent too many wrong credentials. Correct ones are still accepted; more wrong"
    " ones are not looked up before the seconds in `Retry-After` have passed.",
)
#: The methods of routes that match every request with their path and method.
PLAIN = {each.matches for each in (APIRoute, APIWebSocketRoute, Mount, Route, WebSocketRoute)}
#: Addresses whose failures are counted at once.
MAX_ADDRESSES = 10_000


class Authenticator:
    """Finds the principals of the requests of one application."""

    def __init__(self, store: KeyStore, kernel: Kernel, settings: AccessSettings) -> None:
        self.store = store
        self.kernel = kernel
        self.settings = settings
        #: Wrong credentials in this minute by address, and in total by reason.
        self.failures: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        #: The requests in progress that were authenticated with a key, or a ticket of it.
        self.open: WeakSet[Guard] = WeakSet()
        #: The digests of the keys that were valid at the last look, or were used since.
        self._valid: set[bytes] = set()
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        self._error: Problem | None = None

    async def principal_of(self, credential: Credential, scope: Scope) -> Principal:
        """Return the principal of a credential; raises Problem 401 or 429."""
        if credential.kind == "signature":
            principal = None
            if scope.get("method") in METHODS:
                path = path_of(scope)
                if secret_of(credential.secret) not in self.store.secrets:
                    await self._look_again(scope)
                principal = principal_of_link(self.store.secrets, credential.secret, path)
            if principal is None:
                raise self._failed(scope, "signature")
            return principal
        if credential.kind == "key":
            digest = digest_of(credential.secret)
        else:
            digest = await self._redeem(credential.secret, scope)
        key = self.store.keys.get(digest)
        if key is None:
            await self._look_again(scope)
            key = self.store.keys.get(digest)
        if key is None or key.flaw():
            raise self._failed(scope, key.flaw() if key else "unknown")
        self._keep(key)
        return key.principal

    async def _redeem(self, secret: str, scope: Scope) -> bytes:
        ticket = await self.call(self.store.redeem, secret)
        if ticket is None:
            await self._look_again(scope)
            ticket = await self.call(self.store.redeem, secret)
        method = scope.get("method", "GET")  # That of a handshake.
        if ticket is None or (ticket.method, ticket.path) != (method, path_of(scope)):
            raise self._failed(scope, "ticket")
        return ticket.key

    async def _look_again(self, scope: Scope) -> None:
        """Look for an unknown credential, which may be new; raises Problem 429 or 503."""
        self._check_failures(scope)
        await self.look()

    async def look(self) -> None:
        """Fetch the changes of other processes; calls at the same time share a look, and its error.

        Raises Problem 503 if the database cannot be used.
        """
        asked_at = time.monotonic()
        async with self._looking:
            if self._looked_at <= asked_at:
                begun_at, known = time.monotonic(), self._error
                try:
                    await self.call(self.store.refresh)
                    self._error = None
                except Problem as problem:
                    self._error = problem
                    if known is None:
                        logger.warning("%s: %s", problem.detail, problem.__cause__)
                self._looked_at = begun_at  # Not if it was cancelled: the next call looks itself.
            if self._error is not None:
                raise self._error

    async def call(self, method: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a method of the store in a thread; raises Problem 503 if it cannot be used."""
        try:
            return await in_thread(None, method, *arguments, **named)
        except (OSError, sqlite3.Error) as error:
            detail = "The database of the keys cannot be used now."
            raise Problem(503, detail, headers={"Retry-After": "1"}) from error

    def _keep(self, key: Key) -> None:
        guard = current.get()
        guard.credential = key.digest
        self.open.add(guard)
        self._valid.add(key.digest)  # It may become invalid before the next look.

    def _check_failures(self, scope: Scope) -> None:
        """Raise Problem 429 for an address with too many failures."""
        if self.failures[client_of(HTTPConnection(scope))] >= self.settings.max_failures:
            BOUNDS["access.max_failures"] += 1
            detail = "There were too many wrong credentials from your address."
            raise Problem(429, detail, type=TOO_MANY_FAILURES, headers={"Retry-After": "60"})

    def _failed(self, scope: Scope, reason: str) -> Problem:
        client = client_of(HTTPConnection(scope))
        self._check_failures(scope)
        if client in self.failures or len(self.failures) < MAX_ADDRESSES:
            self.failures[client] += 1
        self.refused[reason] += 1
        detail = {
            "expired": "The key has expired.",
            "revoked": "The key was revoked.",
        }.get(reason, "The credential is not valid.")
        return unauthenticated(self.kernel, detail, "invalid_token")

    def end_invalid(self) -> None:
        """End the requests whose key has expired or was revoked."""
        valid = {digest for digest, key in self.store.keys.items() if not key.flaw()}
        known, self._valid = self._valid, valid
        if known <= valid:
            return
        reason = unauthenticated(self.kernel, "The key is not valid any more.", "invalid_token")
        for guard in list(self.open):
            if guard.credential not in valid:
                self.open.discard(guard)
                guard.expire(reason, self.settings.grace)


class Authentication:
    """Pure ASGI: sets the principal of a request, and refuses anonymous ones with 401."""

    def __init__(self, app: ASGIApp, service: FastAPI, routes: "PublicRoutes") -> None:
        self.app = app
        self.service = service
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] != "lifespan":
            try:
                await self._authenticate(scope)
            except Problem as problem:
                app = kernel_of(scope).response_to(problem, exchange_of(scope))
        await app(scope, receive, send)

    async def _authenticate(self, scope: Scope) -> None:
        offered = scope.get("subprotocols", ())
        credential = take_credential(scope)
        if credential is not None:
            authenticator: Authenticator = opened(self.service, "authenticator")
            principal = await authenticator.principal_of(credential, scope)
            scope["state"] = {**scope.get("state", {}), "principal": principal}
            if SUBPROTOCOL in offered:  # A browser fails if the service selects none.
                exchange_of(scope).subprotocol = SUBPROTOCOL
        elif not self.routes.include(scope):
            raise unauthenticated(kernel_of(scope))


class PublicRoutes:
    """The routes that need no credential: those marked with `public`, and some pages."""

    def __init__(self, app: FastAPI, pages: set[str]) -> None:
        """`pages` are the paths of further public routes."""
        self._app = app
        self._pages = pages
        self._contexts: list[tuple[RouteContext, bool]] | None = None

    def include(self, scope: Scope) -> bool:
        """Whether the first route that matches a request, as the router would, is public."""
        if self._contexts is None:
            contexts = iter_route_contexts(self._app.routes)
            self._contexts = [(each, is_public_route(each, self._pages)) for each in contexts]
        path = path_of(scope)
        for context, public in self._contexts:
            route = context.original_route
            is_of_type = isinstance(route, WebSocketRoute) is (scope["type"] == "websocket")
            if not is_of_type and not isinstance(route, Mount):
                continue
            pattern = getattr(context, "path_regex", None)
            if pattern is None:
                return False  # Such as a route by Host, which may lead anywhere.
            methods = context.methods
            if pattern.match(path) and (methods is None or scope.get("method") in methods):
                return public
        return False


def path_of(scope: Scope) -> str:
    """Return the path of a request below that at which a proxy or application mounts this one."""
    path: str = scope["path"]
    rest = path.removeprefix(scope.get("root_path", ""))
    return rest if rest == "" or rest.startswith("/") else path


def is_public_route(context: RouteContext, pages: set[str]) -> bool:
    """Whether a route needs no credential: it is marked, or one of the `pages`."""
    route = context.original_route
    if type(route).matches not in PLAIN:
        return False  # It may leave a request to another route.
    target = route.app if isinstance(route, Mount) else context.endpoint
    return is_public(target) or context.path in pages
