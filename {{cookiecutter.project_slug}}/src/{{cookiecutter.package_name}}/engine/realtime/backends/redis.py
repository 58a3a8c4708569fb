"""The broker of many processes: Redis or Valkey numbers events, keeps them and passes them on.

Each process receives all events on one PUB/SUB connection, the link. Redis does not resend events
that were lost with a link, so the backend reads them itself: after a reconnect, after an event
whose predecessor is missing, and every CHECK_SECONDS. It finds the topics with events after the
number up to which it has received all of them, and reads the events that the listener lacks. The
cost depends on the missed events, not on the followed topics.
"""

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import pydantic_core
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from ...kernel.kernel import BOUNDS
from ...kernel.problem import Problem
from ..messages import Message, Once
from ..ring import Event, History
from ..settings import RealtimeSettings
from ..topics import Position, parts_of
from . import Listener, Published
from .redis_data import Reading, check_format, parse_event
from .redis_lua import LOOK, PUBLISH
from .redis_pool import COMMAND_SECONDS, PREFIX, ask, pool_of, refusal_of, unavailable

#: Seconds for which an Idempotency-Key is remembered.
REMEMBER_SECONDS = 86400
#: Seconds of silence after which the link is probed; after as many again it is closed.
PROBE_SECONDS = 5.0
#: Seconds between two checks for missed events.
CHECK_SECONDS = 30.0
#: Seconds between two attempts to connect: the first, doubled each time up to the second.
RECONNECT_SECONDS = (0.1, 5.0)
#: Channels in one command.
CHANNELS_AT_ONCE = 500
#: Events that are delivered before other tasks run.
EVENTS_AT_ONCE = 500

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_backend(
    listener: Listener, settings: RealtimeSettings
) -> AsyncGenerator["RedisBackend"]:
    """Open the backend, also while Redis is down: it connects as soon as possible."""
    backend = RedisBackend(listener, settings)
    try:
        await backend.tried.wait()
        yield backend
    finally:
        await backend.close()


def check(settings: RealtimeSettings) -> None:
    """End the process with one line if the URL is invalid, or the data in Redis cannot be read."""
    asyncio.run(check_format(settings.broker_url))


class RedisBackend:
    """Publishes through Redis, and delivers the events of all processes, in the order of Redis."""

    def __init__(self, listener: Listener, settings: RealtimeSettings) -> None:
        #: Whether the link works, and the code with which Redis refused the last event, if it did.
        self._is_linked, self._refusal = False, ""
        #: Set after the first attempt to connect.
        self.tried = asyncio.Event()
        self._listener = listener
        self._settings = settings
        self._pool = pool_of(settings.broker_url)
        self._redis = Redis(connection_pool=self._pool)
        self._redis.response_callbacks.clear()  # Replies are parsed here.
        self._scripts: dict[str, Any] = {
            script: self._redis.register_script(script) for script in (PUBLISH, LOOK)
        }
        self._bounds = (
            settings.history_size,
            min(settings.history_bytes, settings.history_total),
            round(settings.history_age * 1000),
            settings.max_topics,
            settings.history_total,
            settings.max_keys,
        )
        # Channels, unlike keys, are common to all databases of a server.
        database = self._pool.connection_kwargs.get("db", 0)
        self._channels = f"{PREFIX}{database}:"
        #: Has a reply also while Redis refuses PING, like a write, because it cannot save.
        self._probe = ("PUNSUBSCRIBE", self._channels)
        #: The newest event, the number up to which events were delivered, and the number up to
        #: which they are known to be complete.
        self._newest: Event | None = None
        self._seen = self._checked = 0
        #: The names to subscribe to, and the subscribers that wait for Redis, in order.
        self._wanted: set[str] = set()
        self._unconfirmed: deque[asyncio.Future[None]] = deque()
        self._link: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        self._is_open = False
        self._task = asyncio.create_task(self._stay_linked())

    @property
    def up(self) -> bool:
        """Whether events are delivered, as far as this process knows."""
        return self._is_linked

    @property
    def publishes(self) -> bool:
        """Whether Redis accepts events: it can be full, a replica, or unable to save."""
        return not self._refusal

    async def publish(
        self, topic: str, message: Message, once: Once | None, last: int | None = None
    ) -> Published:
        packed = pydantic_core.to_json([message.data, message.event, message.is_json, message.key])
        keys = [f"{PREFIX}keys", f"{PREFIX}topic:{topic}"]
        keys += [f"{PREFIX}once:{once.key}"] if once else []
        args = (topic, self._channels + topic, packed, once.stored if once else "-")
        try:
            reply, *dropped = await self._run(
                PUBLISH,
                keys,
                *args,
                REMEMBER_SECONDS,
                *self._bounds,
                "" if last is None else last,
                may_repeat=once is not None,
            )
        except Problem as problem:
            if code := refusal_of(problem.__cause__):
                self._refuse(code, problem)
            raise
        for bound, count in zip(("max_topics", "history_total", "max_keys"), dropped, strict=True):
            if count:
                BOUNDS[f"realtime.{bound}"] += count
        stored, event_id = reply.decode().split(" ")
        is_mine = stored == "-" if once is None else once.is_mine(stored)
        position = Position.parse(event_id)
        if position.epoch == self._listener.epoch:  # Another epoch is reported by its first event.
            self._listener.heard(position)
        return Published(event_id, is_mine)

    async def history(self, name: str) -> dict[str, History]:
        listener, floor, topics = self._listener, 0, [name]
        position = await self.top()
        reading = Reading(self._redis, self._settings, position.epoch)
        if name.endswith(".*"):
            topics = await reading.named(name[:-1])
            floor = reading.forgotten
        lasts = await reading.lasts(topics)
        followed = listener.followed()
        after = {topic: 0 for topic in lasts if topic not in followed}
        found, _ = await reading.events(after, position.sequence, reading.most)
        # Confirmed after the delivery of all events that were published before the reading.
        await self.subscribe(name)
        if listener.epoch != position.epoch:
            raise unavailable()  # These numbers are not of the listener's epoch.
        # Topics that were not read, or that the listener has dropped meanwhile.
        gone = lasts.keys() - found.keys() - listener.followed().keys()
        floor = max(floor, reading.forgotten, *(lasts[topic] for topic in gone))
        return {name: History(floor, []), **found}

    async def top(self) -> Position:
        newest = self._newest
        known = (newest.topic, newest.sequence, round(newest.at * 1000)) if newest else ("", 0, 0)
        try:
            epoch, top = await self._run(LOOK, [], *known)
        except Problem as problem:
            if self._listener.epoch or refusal_of(problem.__cause__) in ("", "NOPERM"):
                raise
            return Position("", 0)  # Redis is empty, and its first event will begin an epoch.
        position = Position(epoch.decode(), top)
        self._heard(position)
        return position

    async def _run(self, script: str, keys: list[str], *args: Any, may_repeat: bool = True) -> Any:
        listener = self._listener
        seen = (secrets.token_hex(4), listener.epoch, listener.top)
        names = [f"{PREFIX}position", f"{PREFIX}topics", f"{PREFIX}names", *keys]
        arguments = [f"{PREFIX}topic:", *seen, *args]
        run = partial(self._scripts[script], names, arguments)
        return await ask(self._redis, run, may_repeat=may_repeat)

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
        """End the link, and close all connections."""
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
                reason = str(error.__cause__ or error) or "It does not reply."
                logger.warning("No link to Redis: %s", reason)
                if isinstance(error, Problem):
                    # The connections for commands may lead to a server that became a replica.
                    with suppress(RedisError, OSError):
                        await self._pool.disconnect(inuse_connections=False)
            except Exception:
                logger.exception("The link to Redis failed")
            finally:
                await self._leave()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, longest)

    async def _join(self) -> None:
        """Subscribe to all names, and deliver the missed events before new ones."""
        async with asyncio.timeout(COMMAND_SECONDS):
            await self._link.connect()
        self._is_open = True
        # The user may lack permissions, which fails here and not at the first subscriber.
        tried = [(verb, self._channels) for verb in ("SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE")]
        await self._send(*self._commands("SUBSCRIBE", self._wanted), *tried, self._probe)
        while (await self._next())[0] != b"punsubscribe":
            pass  # Events before the reply are among those that the check reads.
        await self._check()
        await Reading(self._redis, self._settings, self._listener.epoch).try_all()

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        checked_at = clock()
        while True:
            await self._take(await self._next())
            if clock() >= checked_at + (PROBE_SECONDS if self._refusal else CHECK_SECONDS):
                await self._check()
                checked_at = clock()

    async def _check(self) -> None:
        """Check whether Redis accepts events, and whether events were missed."""
        was_replica = self._refusal == "READONLY"
        await self._try_to_publish()
        if self._refusal == "READONLY":
            # The address may lead to another server by now, and is resolved for new connections.
            was_replica = True
            await self._pool.disconnect(inuse_connections=False)
            await self._try_to_publish()
        if was_replica and not self._refusal:
            raise ConnectionError("There is a new primary.")
        await self._heal()

    async def _try_to_publish(self) -> None:
        """Publish an event that no client can receive, so that a refusal is noticed."""
        names = ("position", "topics", "names", "keys", "events:", f"once:{secrets.token_hex(4)}")
        keys = [f"{PREFIX}probe:{name}" for name in names]
        seen = (f"{PREFIX}probe:events:", secrets.token_hex(4), "", 0)
        event = ("", self._channels, "", "-", 1, 1, 0, 1, 1, 10_000, 1, "")
        try:
            await ask(self._redis, partial(self._scripts[PUBLISH], keys, [*seen, *event]))
        except Problem as problem:
            if not isinstance(problem.__cause__, ResponseError):
                raise
            self._refuse(refusal_of(problem.__cause__) or "ERR", problem)
        else:
            self._refusal = ""

    def _refuse(self, code: str, problem: Problem) -> None:
        if code != self._refusal:
            logger.warning("Redis refuses events (%s): %s", code, problem.__cause__)
        self._refusal = code

    async def _leave(self) -> None:
        self._is_linked = self._is_open = False
        self.tried.set()
        while self._unconfirmed:
            confirmed = self._unconfirmed.popleft()
            if not confirmed.done():  # Otherwise its subscriber was cancelled.
                confirmed.set_exception(ConnectionError("The link is broken."))
        with suppress(RedisError, OSError):
            await self._link.disconnect(nowait=True)

    async def _next(self) -> Any:
        """Return the next reply on the link; raises ConnectionError if a probe has no reply."""
        for _ in range(2):
            reply = await self._link.read_response(timeout=PROBE_SECONDS, disconnect_on_error=False)
            if reply is not None:
                return reply
            await self._send(self._probe)
        raise ConnectionError("Redis does not reply.")

    async def _send(
        self, *commands: tuple[str, ...], confirmed: asyncio.Future[None] | None = None
    ) -> None:
        """Send commands, in the order of the calls; raises ConnectionError or TimeoutError."""
        link = self._link
        # redis-py would reconnect a broken link by itself, without a check for missed events.
        if not self._is_open or not link.is_connected:
            raise ConnectionError("There is no link.")
        if confirmed is not None:
            self._unconfirmed.append(confirmed)
        async with asyncio.timeout(COMMAND_SECONDS):
            await link.send_packed_command(link.pack_commands(commands), check_health=False)

    def _commands(self, verb: str, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
        # The only special character of a pattern that a name contains is the `*` at the end.
        for command, is_prefix in ((verb, False), (f"P{verb}", True)):
            channels = [self._channels + n for n in names if n.endswith(".*") == is_prefix]
            # Redis serves other clients between two commands.
            for at in range(0, len(channels), CHANNELS_AT_ONCE):
                yield command, *channels[at : at + CHANNELS_AT_ONCE]

    async def _take(self, reply: Any) -> None:
        match reply:
            case [b"subscribe" | b"psubscribe", *_] if self._unconfirmed:
                confirmed = self._unconfirmed.popleft()
                if not confirmed.done():
                    confirmed.set_result(None)
            case [b"message", channel, data] | [b"pmessage", _, channel, data]:
                epoch, *fields = data.split(b" ", 4)
                event = parse_event(epoch, channel.removeprefix(self._channels.encode()), *fields)
                self._heard(Position(epoch.decode(), event.sequence - 1))
                if not self._listener.deliver(event):
                    await self._heal()
                elif event.sequence > self._seen:
                    self._newest, self._seen = event, event.sequence

    # ---- Missed events

    def _heard(self, position: Position) -> None:
        if position.epoch != self._listener.epoch:
            self._newest, self._seen, self._checked = None, position.sequence, position.sequence
        self._listener.heard(position)

    async def _heal(self) -> None:
        """Deliver the missed events of all topics in one order, and report those that are gone."""
        listener, seen, epoch = self._listener, self._seen, self._listener.epoch
        position = await self.top()
        if position.epoch != epoch:
            return  # A new epoch was reported to all subscribers.
        reading, known = Reading(self._redis, self._settings, epoch), set[str]()
        after: dict[str, int] = {}
        async for changed in reading.changed(self._checked):
            known.update(changed)
            after.update(self._lacking(changed))
        until = reading.top
        histories, unread = await reading.events(after, until)
        if listener.epoch != epoch:
            return
        # All topics in Redis have numbers above `forgotten`, so they are among the known ones.
        if reading.forgotten > seen:
            for name in listener.followed().keys() - known:
                listener.skip(name, reading.forgotten)
        gone = dict.fromkeys(unread, until)
        for topic, history in histories.items():
            # Subscribers that have received newer events of other topics cannot receive older ones.
            # (A topic's floor may be lower than `seen`, if it was dropped meanwhile.)
            late = [event.sequence for event in history.events if event.sequence <= seen]
            if late or history.floor > max(after[topic], seen):
                gone[topic] = late[-1] if late else history.floor
        self._skip(gone)
        missed = chain.from_iterable(history.events for history in histories.values())
        await self._deliver(sorted(missed, key=attrgetter("sequence")), epoch)
        if listener.epoch == epoch:
            self._seen = self._checked = until

    async def _deliver(self, events: list[Event], epoch: str) -> None:
        for number, event in enumerate(events, 1):
            self._listener.deliver(event)
            self._newest = event
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
                if self._listener.epoch != epoch:
                    return

    def _lacking(self, changed: dict[str, int]) -> dict[str, int]:
        """Return the topics of which the listener lacks events, with the newest that it has."""
        followed, found = self._listener.followed(), {}
        for topic, last in changed.items():
            numbers = [followed[name] for name in parts_of(topic) if name in followed]
            number = followed.get(topic, max(numbers, default=last))
            if number < last:
                found[topic] = number
        return found

    def _skip(self, gone: dict[str, int]) -> None:
        """Report that the events of topics up to a number each are gone."""
        followed = self._listener.followed()
        for topic, number in gone.items():
            for name in [topic] if topic in followed else parts_of(topic):
                self._listener.skip(name, number)
