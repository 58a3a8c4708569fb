"""The broker of many processes: Redis or Valkey numbers the events, keeps them and passes them on.

What is published comes back to each process on one PUB/SUB connection, the link. Redis tells
nobody what they missed while a link was broken: `redis_kept` reads that. The keys are in
`redis_lua`.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from ...kernel.problem import Problem
from ..messages import Message
from ..ring import History
from ..settings import RealtimeSettings
from ..topics import Position
from . import Once
from .redis_kept import Kept
from .redis_scripts import (
    COMMAND_SECONDS,
    PREFIX,
    Scripts,
    asking,
    check_format,
    parse_event,
    unavailable,
)

if TYPE_CHECKING:
    from ..hub import Hub

#: Seconds of silence after which the link is tried, and as many again after which it is dead.
PROBE_SECONDS = 5.0
#: Seconds between two checks whether anything was missed.
CHECK_SECONDS = 30.0
#: Seconds between two attempts to connect: the first, doubled each time up to the second.
RECONNECT_SECONDS = (0.1, 5.0)
#: Channels in one command.
CHANNELS_AT_ONCE = 500

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_backend(hub: "Hub", settings: RealtimeSettings) -> AsyncGenerator["RedisBackend"]:
    """Open the backend; it is there also without Redis, and connects as soon as that is."""
    backend = RedisBackend(hub, settings)
    try:
        await backend.tried.wait()
        yield backend
    finally:
        await backend.close()


def check(settings: RealtimeSettings) -> None:
    """End the process with one line when this release cannot read what is in Redis."""
    asyncio.run(check_format(settings.broker_url))


class RedisBackend:
    """Publishes through Redis, and delivers what everybody publishes, in the order of Redis."""

    def __init__(self, hub: "Hub", settings: RealtimeSettings) -> None:
        #: Whether the link works, and whether Redis took the last write: a full one takes none.
        self._is_linked, self._takes_writes = False, True
        #: Set when Redis has been asked for the first time, with or without success.
        self.tried = asyncio.Event()
        self._hub = hub
        self._pool = BlockingConnectionPool.from_url(
            settings.broker_url,
            protocol=2,
            # A publication whose answer was lost must not be sent again.
            retry=Retry(NoBackoff(), 0),
            # Those of redis-py are `wait_for`, in which Python 3.11 loses a cancellation.
            socket_timeout=None,
            max_connections=16,
        )
        self._redis = Redis(connection_pool=self._pool)
        self._scripts = Scripts(self._redis, settings)
        raw = Redis(connection_pool=self._pool)
        raw.response_callbacks.clear()
        self._kept = Kept(hub, self._scripts, raw, settings)
        # Channels, unlike keys, are common to all databases of a server.
        database = self._pool.connection_kwargs.get("db", 0)
        self._channels = f"{PREFIX}{database}:"
        #: The names to be subscribed to, and the subscribers that wait for Redis, in order.
        self._wanted: set[str] = set()
        self._unconfirmed: deque[asyncio.Future[None]] = deque()
        self._link: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        self._is_open = False
        self._task = asyncio.create_task(self._stay_linked())

    @property
    def up(self) -> bool:
        """Whether events can be published and are delivered, as far as this process has seen."""
        return self._is_linked and self._takes_writes

    async def publish(self, topic: str, message: Message, once: Once | None) -> str:
        hub = self._hub
        seen = Position(hub.epoch, hub.top)
        channel = self._channels + topic
        try:
            position = await self._scripts.publish(seen, channel, topic, message, once)
        except Problem as problem:
            if isinstance(problem.__cause__, ResponseError | BusyLoadingError):
                self._takes_writes = False
            raise
        self._takes_writes = True
        if position.epoch == hub.epoch:  # Another one is told by what comes on the link.
            hub.heard(position)
        return str(position)

    async def history(self, name: str) -> dict[str, History]:
        # Its confirmation comes behind what is still under way of what was read.
        return await self._kept.history(name, partial(self.subscribe, name))

    async def top(self) -> Position:
        return await self._kept.look()

    async def subscribe(self, name: str) -> None:
        confirmed = asyncio.get_running_loop().create_future()
        self._wanted.add(name)
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await self._send(*self._commands("SUBSCRIBE", [name]), confirmed=confirmed)
                await confirmed
        except (RedisError, OSError) as error:
            self._wanted.discard(name)
            raise unavailable() from error

    async def unsubscribe(self, name: str) -> None:
        self._wanted.discard(name)
        with suppress(RedisError, OSError):
            await self._send(*self._commands("UNSUBSCRIBE", [name]))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._redis.aclose()
        await self._pool.aclose()

    # ---- The link

    async def _stay_linked(self) -> None:
        shortest, longest = RECONNECT_SECONDS
        pause = shortest
        while True:
            try:
                await self._join()
                self._is_linked, pause = True, shortest
                self.tried.set()
                await self._follow()
            except (RedisError, OSError, Problem) as error:
                reason = str(error.__cause__ or error) or "It does not answer."
                logger.warning("No link to Redis: %s", reason)
                if isinstance(error, Problem):
                    await self._renew_pool()
            except Exception:
                logger.exception("The link to Redis failed")
            finally:
                await self._leave()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, longest)

    async def _join(self) -> None:
        """Subscribe to everything, and deliver what was missed before anything that is new."""
        async with asyncio.timeout(COMMAND_SECONDS):
            await self._link.connect()
        self._is_open = True
        await self._send(*self._commands("SUBSCRIBE", self._wanted), ("PING",))
        while await self._next() not in (b"PONG", [b"pong", b""]):
            pass  # Whatever comes before that is among what is read now.
        await self._check()

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        checked_at = clock()
        while True:
            await self._take(await self._next())
            if clock() >= checked_at + (CHECK_SECONDS if self._takes_writes else PROBE_SECONDS):
                await self._check()
                checked_at = clock()

    async def _check(self) -> None:
        """See whether Redis takes writes, and whether anything was missed."""
        try:
            async with asking():
                await self._redis.set(f"{PREFIX}probe", 1, ex=60)
        except Problem as problem:
            if self._takes_writes:
                logger.warning("Redis takes no events: %s", problem.__cause__)
            self._takes_writes = False
        else:
            self._takes_writes = True
        await self._kept.heal()

    async def _leave(self) -> None:
        self._is_linked = self._is_open = False
        self.tried.set()
        while self._unconfirmed:
            _settle(self._unconfirmed.popleft(), ConnectionError("The link is broken."))
        with suppress(RedisError, OSError):
            await self._link.disconnect(nowait=True)

    async def _renew_pool(self) -> None:
        """Close the connections for commands, which may lead to what is a replica by now."""
        with suppress(RedisError, OSError):
            await self._pool.disconnect(inuse_connections=False)

    async def _next(self) -> Any:
        """Return what Redis says next; raises ConnectionError when it stays silent when asked."""
        for _ in range(2):
            reply = await self._link.read_response(timeout=PROBE_SECONDS, disconnect_on_error=False)
            if reply is not None:
                return reply
            await self._send(("PING",))
        raise ConnectionError("Redis does not answer.")

    async def _send(
        self, *commands: tuple[str, ...], confirmed: asyncio.Future[None] | None = None
    ) -> None:
        """Send commands, in the order of the calls; raises ConnectionError or TimeoutError."""
        link = self._link
        # A broken one would connect again by itself, and nobody would know what was missed.
        if not self._is_open or not link.is_connected:
            raise ConnectionError("There is no link.")
        if confirmed is not None:
            self._unconfirmed.append(confirmed)
        async with asyncio.timeout(COMMAND_SECONDS):
            await link.send_packed_command(link.pack_commands(commands), check_health=False)

    def _commands(self, verb: str, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
        # No character of a name means anything in a pattern but the `*` at the end.
        for command, is_prefix in ((verb, False), (f"P{verb}", True)):
            channels = [self._channels + n for n in names if n.endswith(".*") == is_prefix]
            # In between Redis serves others.
            for at in range(0, len(channels), CHANNELS_AT_ONCE):
                yield command, *channels[at : at + CHANNELS_AT_ONCE]

    async def _take(self, reply: Any) -> None:
        match reply:
            case [b"subscribe" | b"psubscribe", *_] if self._unconfirmed:
                _settle(self._unconfirmed.popleft())
            case [b"message", channel, data] | [b"pmessage", _, channel, data]:
                epoch, *fields = data.split(b" ", 4)
                event = parse_event(epoch, channel.removeprefix(self._channels.encode()), *fields)
                await self._kept.deliver(Position(epoch.decode(), event.sequence - 1), event)


def _settle(confirmed: asyncio.Future[None], error: OSError | None = None) -> None:
    if confirmed.done():
        return  # Nobody waits any more.
    if error is None:
        confirmed.set_result(None)
    else:
        confirmed.set_exception(error)
