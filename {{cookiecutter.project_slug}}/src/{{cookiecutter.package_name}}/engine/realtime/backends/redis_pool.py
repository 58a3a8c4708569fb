"""Connections to Redis: their options, the deadline of commands, and refused writes."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from ...kernel.problem import Problem
from . import UNAVAILABLE

#: Seconds that a command may take.
COMMAND_SECONDS = 3.0
#: Seconds without use after which a connection is tested before it is used again.
IDLE_SECONDS = 0.1
#: The braces keep all keys in one slot of a cluster.
PREFIX = "{" + __name__.partition(".")[0] + "}:"
#: Options that a URL may contain, besides those of TLS (`ssl_…`).
OPTIONS = {
    *("client_name", "db", "username", "password", "socket_connect_timeout", "socket_keepalive")
}
#: Options that the backend depends on; a URL does not change them.
FIXED: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "encoding": "utf-8",
    # A publication must not be repeated because its reply was lost.
    "retry": Retry(NoBackoff(), 0),
    "retry_on_timeout": False,
    # Redis refuses PING while it cannot save its data.
    "health_check_interval": 0,
    # redis-py uses `wait_for`, in which Python 3.11 loses a cancellation.
    "socket_timeout": None,
    "max_connections": 16,
    "timeout": 20,
}

#: The codes of replies that refuse writes. Redis 6 puts a text before those of a script, and
#: redis-py before those of a pipeline.
_REFUSALS = re.compile(r"(?:^|: -?)(MISCONF|NOREPLICAS|READONLY|OOM|NOPERM) ")
#: redis-py removes these codes from the text.
_CODES = {ReadOnlyError: "READONLY", OutOfMemoryError: "OOM", NoPermissionError: "NOPERM"}


def refusal_of(error: BaseException | None) -> str:
    """Return the code of a reply that refuses writes, or an empty string for another error.

    `MISCONF`: Redis cannot save its data; `NOREPLICAS`: too few replicas; `READONLY`: it is a
    replica; `OOM`: it is full; `NOPERM`: the user lacks a permission.
    """
    if not isinstance(error, ResponseError):
        return ""
    found = _REFUSALS.search(str(error))
    return _CODES.get(type(error), found[1] if found else "")


def unavailable() -> Problem:
    headers = {"Retry-After": "1"}
    return Problem(503, "The broker is unavailable.", type=UNAVAILABLE, headers=headers)


async def ask(redis: Redis, call: Callable[[], Awaitable[Any]], *, may_repeat: bool = True) -> Any:
    """Call Redis within COMMAND_SECONDS; raises Problem 503 if it does not reply, or refuses.

    After half of the time a call that `may_repeat` is repeated on a new connection, because a
    firewall may have dropped the old one silently.
    """
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            if may_repeat:
                with suppress(TimeoutError):
                    async with asyncio.timeout(COMMAND_SECONDS / 2):
                        return await call()
                await redis.connection_pool.disconnect(inuse_connections=False)
            return await call()
    except (RedisError, OSError) as error:
        raise unavailable() from error


class Pool(BlockingConnectionPool):
    """Connections to Redis; one that was idle is tested before it is used.

    Firewalls drop idle connections silently, and a publication that was sent on one must not be
    repeated.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._released: dict[Any, float] = {}

    async def ensure_connection(self, connection: Any) -> None:
        idle = time.monotonic() - self._released.get(connection, inf)
        if connection.is_connected and idle > IDLE_SECONDS:
            try:
                async with asyncio.timeout(COMMAND_SECONDS / 3):
                    await connection.send_command("EXISTS", f"{PREFIX}position")
                    with suppress(ResponseError):
                        await connection.read_response()
            except (RedisError, OSError):
                await connection.disconnect(nowait=True)
                await self.disconnect(inuse_connections=False)  # The others are as old.
        await super().ensure_connection(connection)

    async def release(self, connection: Any) -> None:
        self._released[connection] = time.monotonic()
        await super().release(connection)


def pool_of(url: str) -> Pool:
    """Return the connections of a broker's URL; raises ValueError if it cannot be used."""
    # Without the reason of redis-py, which may contain a part of the password.
    reason = "it is malformed, or an option is invalid; encode special characters, as in p%2Fw"
    with suppress(TypeError, ValueError, RedisError):
        names = {name for name in parse_qs(urlsplit(url).query) if not name.startswith("ssl_")}
        options: dict[str, Any] = {**parse_url(url), **FIXED}
        unknown = names - OPTIONS - FIXED.keys()
        if unknown:
            reason = f"the option {min(unknown)!r} is not supported"
        elif " " not in options.get("client_name", ""):
            pool = Pool(**options)
            pool.connection_class(**pool.connection_kwargs)  # Raises for an invalid value.
            return pool
    raise ValueError(f"APP_REALTIME__BROKER_URL: {reason}")
