"""Leases: exclusive rights to work on one name, such as an upload, across processes.

With Redis, a process renews its leases every second, and a lease that was not renewed for three can
be taken over. Its holder considers it lost before that, by its own clock: also if it was suspended
or cut off, and if Redis has lost its data. Without Redis, there is one process, which `guard`
ensures.

Redis alone cannot protect what a holder has begun to write: its bytes may arrive after it has lost
the lease. `fence` and `taken_over` are for that.

If Redis has replicas, set `min-replicas-to-write 1` there: a primary that was cut off from them
continues to grant leases otherwise. `maxmemory-policy` must be `noeviction` or leave leases alone.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..kernel.problem import Problem, ProblemType
from ..kernel.threads import complete, repeating
from ..streams.clock import steady_time
from .leases_lua import ASK, RELEASE, RENEW, TAKE, TTL

#: Seconds between two renewals, and between two looks at what others have asked for.
RENEW_SECONDS, LOOK_SECONDS = 1.0, 0.05
#: Seconds for which a lease is held after the beginning of its last renewal: a margin below TTL.
HOLD_SECONDS = TTL / 1000 - 0.5
#: Seconds that each of two attempts at a command may take: for a renewal, both fit between the last
#: one and the loss; for a request.
RENEWAL_SECONDS, COMMAND_SECONDS = 0.7, 1.5
#: Seconds to wait for Redis at the start.
START_SECONDS = 10.0
#: Leases in one command.
BATCH = 1000
#: Seconds after the start for which it is unknown whether the last process released its leases.
UNSURE_SECONDS = 600.0
#: Options that a URL does not change, as in the broker of real-time events.
FIXED: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "encoding": "utf-8",
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
    "retry_on_timeout": False,
    "socket_timeout": None,
    "max_connections": 16,
    "timeout": 20,
}

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Lease:
    """The exclusive right to work on a name."""

    leases: "Leases"
    name: str
    #: Grows with every holder of the name, also if Redis loses its data; 0 until it is taken.
    fence: int = 0
    #: Whether the holder before may have died without releasing it, so that its writes may still
    #: arrive. Also true if that is unknown.
    taken_over: bool = False
    #: The request for which it was taken, and the newest one that has asked for it.
    ticket: int = 0
    asked: int = 0
    #: When it is lost unless it is renewed, in the time of the steady clock.
    until: float = 0
    #: The value in Redis.
    value: bytes = b""

    def is_wanted(self) -> bool:
        """Whether a newer request has asked for it."""
        return self.asked > self.ticket

    def is_held(self) -> bool:
        """Return False as soon as another process may have taken it, and from then on."""
        return steady_time() < self.until and self.leases.is_guarded()

    async def release(self, *, is_clean: bool = True) -> None:
        """Release it after its last write has ended; otherwise it becomes free after TTL.

        Unless `is_clean`, it counts as taken over by the next holder, after TTL.
        """
        await self.leases.release(self, is_clean=is_clean)


class Leases:
    """The leases of a process that has the bucket for itself."""

    #: The highest fence or ticket that this process knows. They are about the microseconds of the
    #: clock of Redis, less than 2**53.
    number = 0
    #: The id of the data in Redis, which its restart may change.
    id = ""
    #: Whether leases can be taken, for health checks.
    is_up = True

    def __init__(self, unavailable: ProblemType | None) -> None:
        """`unavailable` is the type of the Problem 503 that `ask` and `take` raise."""
        #: Whether no process without this Redis uses the bucket; `guard` replaces it.
        self.is_guarded: Callable[[], bool] = lambda: True
        self._unavailable = unavailable
        self._held: dict[str, Lease] = {}
        self._sure_from = steady_time() + UNSURE_SECONDS

    async def begin(self) -> None:
        """Grant leases at once: no process that uses the bucket has died before."""
        self._sure_from = 0

    async def ask(self, name: str) -> int:
        """Return a ticket for the newest request; the holder's `is_wanted` is true within 0.1 s."""
        ticket = self._next()
        if name in self._held:
            self._held[name].asked = ticket
        return ticket

    async def take(self, name: str, ticket: int | None = None) -> Lease | None:
        """Take a lease; return None if another holds it, also one of this process."""
        if not self.is_guarded():
            raise self._problem()
        if held := self._held.get(name):
            held.asked = max(held.asked, ticket or 0)
            return None
        fence, taken_over = self._next(), steady_time() < self._sure_from
        lease = Lease(self, name, fence, taken_over, ticket or fence, until=inf)
        self._held[name] = lease
        return lease

    async def release(self, lease: Lease, *, is_clean: bool = True) -> None:
        """Release a lease, if it is held; see `Lease.release`."""
        lease.until = 0
        if self._held.get(lease.name) is lease:
            del self._held[lease.name]

    def _next(self) -> int:
        self.number = max(self.number + 1, time.time_ns() // 1000)
        return self.number

    def _problem(self, seconds: int = 1) -> Problem:
        detail = "The work of several processes cannot be coordinated now."
        headers = {"Retry-After": str(seconds)}
        return Problem(503, detail, type=self._unavailable, headers=headers)


class RedisLeases(Leases):
    """The leases of all processes that use the same Redis and namespace."""

    def __init__(self, url: str, namespace: str, unavailable: ProblemType | None) -> None:
        super().__init__(unavailable)
        pool = BlockingConnectionPool(**{**parse_url(url), **FIXED})
        self._redis = Redis(connection_pool=pool)
        self._redis.response_callbacks.clear()  # Replies are parsed here.
        self._scripts: dict[str, Any] = {
            script: self._redis.register_script(script) for script in (ASK, TAKE, RENEW, RELEASE)
        }
        # The braces keep all keys in one slot of a cluster.
        self._prefix = "{" + namespace + "}:"
        #: Those that are held, and those that are being taken, so that `look` finds them.
        self._leases: set[Lease] = set()
        #: The newest ticket that `look` has seen.
        self._seen = 0

    async def begin(self) -> None:
        await self._call(partial(self._redis.delete, f"{self._prefix}quiet"))

    async def ask(self, name: str) -> int:
        ticket = int(await self._serve(ASK, [], name))
        self.number = max(self.number, ticket)
        return ticket

    async def take(self, name: str, ticket: int | None = None) -> Lease | None:
        lease = Lease(self, name)
        self._leases.add(lease)
        try:
            await complete(self._take(lease, ticket))
        except BaseException:
            await self.release(lease, is_clean=not lease.taken_over)
            raise
        if not lease.fence:
            self._leases.discard(lease)
            return None
        return lease

    async def _take(self, lease: Lease, ticket: int | None) -> None:
        if not self.is_guarded():
            raise self._problem()
        token, sent = secrets.token_hex(8), steady_time()
        reply = await self._serve(TAKE, [lease.name], lease.name, token)
        if reply is None:
            return
        if reply[0] == b"quiet":
            raise self._problem(ceil(reply[1] / 1000))
        lease.value, asked = reply
        _, fence, taken_over = lease.value.split()
        lease.fence, lease.taken_over = int(fence), taken_over == b"1"
        lease.ticket, lease.asked = ticket or lease.fence, max(lease.asked, int(asked))
        lease.until = sent + HOLD_SECONDS
        self.number = max(self.number, lease.fence)

    async def release(self, lease: Lease, *, is_clean: bool = True) -> None:
        lease.until = 0
        self._leases.discard(lease)
        if lease.fence and is_clean:
            with suppress(RedisError, OSError):  # It becomes free after TTL.
                await complete(self._run(RELEASE, [lease.name], lease.value))

    async def renew(self) -> None:
        """Renew all leases that are held; those that Redis does not renew in time are lost.

        Raises RedisError or OSError.
        """
        held = [lease for lease in self._leases if lease.is_held()]
        for start in range(0, max(len(held), 1), BATCH):
            batch, sent = held[start : start + BATCH], steady_time()
            names, values = [lease.name for lease in batch], [lease.value for lease in batch]
            known = self.id or secrets.token_hex(8)
            found, number, *kept = await self._run(
                RENEW, names, known, *values, seconds=RENEWAL_SECONDS
            )
            self.id, self.number = found.decode(), max(self.number, int(number))
            for lease, is_kept in zip(batch, kept, strict=True):
                if lease not in self._leases:  # Redis may have restored it after its release.
                    await self.release(lease)
                elif not is_kept:
                    logger.error("The lease of %s was lost before its time", lease.name)
                    lease.until = 0
                elif lease.is_held():
                    lease.until = sent + HOLD_SECONDS
        if not self._leases:
            self._seen = self.number

    async def keep(self) -> None:
        """Renew all leases; those that Redis does not renew in time are lost."""
        with suppress(RedisError, OSError):
            await self.renew()

    async def look(self) -> None:
        """Find out which of the leases newer requests have asked for."""
        if not self._leases:
            return
        command = "ZRANGEBYSCORE", f"{self._prefix}asks", f"({self._seen}", "+inf", "WITHSCORES"
        with suppress(RedisError, OSError):
            found = await self._call(partial(self._redis.execute_command, *command))
            pairs = zip(found[::2], found[1::2], strict=True)
            tickets = {name.decode(): int(score) for name, score in pairs}
            self._seen = max([self._seen, *tickets.values()])
            for lease in self._leases:
                lease.asked = max(lease.asked, tickets.get(lease.name, 0))

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.aclose()

    async def _run(
        self, script: str, names: list[str], *args: Any, seconds: float = COMMAND_SECONDS
    ) -> Any:
        keys = [self._prefix + name for name in ("state", "quiet", "asks")]
        keys += [f"{self._prefix}lease:{name}" for name in names]
        call = partial(self._scripts[script], keys, [self.number, *args])
        return await self._call(call, seconds)

    async def _call(
        self, call: Callable[[], Awaitable[Any]], seconds: float = RENEWAL_SECONDS, tries: int = 2
    ) -> Any:
        """Call Redis; all commands may be repeated. Raises RedisError or OSError."""
        try:
            async with asyncio.timeout(seconds):
                reply = await call()
        except (RedisError, OSError) as error:
            # The connections may lead to a server that has ended, or that became a replica.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            if tries > 1:
                return await self._call(call, seconds, tries - 1)
            if self.is_up:
                self.is_up = False
                logger.error("Redis cannot be used: %s", str(error) or "it does not reply")
            raise
        if not self.is_up:
            self.is_up = True
            logger.warning("Redis can be used again")
        return reply

    async def _serve(self, *call: Any) -> Any:
        try:
            return await self._run(*call)
        except (RedisError, OSError) as error:
            raise self._problem() from error


@asynccontextmanager
async def open_leases(
    redis_url: str | None, namespace: str, unavailable: ProblemType | None = None
) -> AsyncGenerator[Leases]:
    """Open the leases of a bucket: of all processes with this Redis, or without one of this one.

    `unavailable` is the type of the problem when Redis is unavailable. Raises OSError or ValueError
    with one line if it cannot be used within START_SECONDS, or the URL is invalid.
    """
    if redis_url is None:
        yield Leases(unavailable)
        return
    leases = RedisLeases(redis_url, namespace, unavailable)
    stop = steady_time() + START_SECONDS
    try:
        while True:
            try:
                await leases.renew()
                break
            except (RedisError, OSError) as error:
                if steady_time() > stop:
                    reason = f"Redis cannot be used: {str(error) or 'it does not reply'}"
                    raise OSError(f"APP_STORAGE__REDIS_URL: {reason}") from error
                await asyncio.sleep(LOOK_SECONDS)
        async with repeating(RENEW_SECONDS, leases.keep), repeating(LOOK_SECONDS, leases.look):
            yield leases
    finally:
        await leases.close()
