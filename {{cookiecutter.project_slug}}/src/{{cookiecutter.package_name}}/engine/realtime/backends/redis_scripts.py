"""The scripts of `redis_lua` as functions, and how Redis is asked."""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pydantic_core
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ...kernel.kernel import BOUNDS
from ...kernel.problem import Problem
from ..messages import Message
from ..ring import Event
from ..settings import RealtimeSettings
from ..topics import Position
from . import UNAVAILABLE, Once
from .redis_lua import FORMAT, LOOK, PUBLISH

#: Seconds that a command may take.
COMMAND_SECONDS = 3.0
#: Seconds for which an Idempotency-Key is remembered.
REMEMBER_SECONDS = 86400
#: Bytes of events that are read at once; of topics beyond that a gap is told.
READ_BYTES = 8 << 20
#: In braces, which keep all keys in one slot.
PREFIX = "{" + __name__.partition(".")[0] + "}:"

#: The settings for which topics and keys are forgotten.
_FORGETTING = ("max_topics", "history_total", "max_keys")


class Scripts:
    """The scripts as functions; `seen` is the position that the caller knows of.

    They raise Problem 503 with Retry-After when Redis does not answer.
    """

    def __init__(self, redis: Redis, settings: RealtimeSettings) -> None:
        self._publish = redis.register_script(PUBLISH)
        self._look = redis.register_script(LOOK)
        self._bounds = (
            settings.history_size,
            min(settings.history_bytes, settings.history_total),
            round(settings.history_age * 1000),
            settings.max_topics,
            settings.history_total,
            settings.max_keys,
        )

    async def publish(
        self, seen: Position, channel: str, topic: str, message: Message, once: Once | None
    ) -> Position:
        """Return where the message is now, or was before; raises Problem 422 like `Once`."""
        keys = [f"{PREFIX}keys", f"{PREFIX}topic:{topic}"]
        if once is not None:
            keys.append(f"{PREFIX}once:{once.key}")
        packed = pydantic_core.to_json([message.data, message.event, message.is_json, message.key])
        fingerprint = once.fingerprint if once else "-"
        args = (topic, channel, packed, fingerprint, REMEMBER_SECONDS, *self._bounds)
        answer, *forgotten = await self._run(self._publish, keys, seen, *args)
        for bound, count in zip(_FORGETTING, forgotten, strict=True):
            if count:
                BOUNDS[f"realtime.{bound}"] += count
        first, event_id = answer.decode().split(" ")
        if once is not None:
            once.refuse_other(first)
        return Position.parse(event_id)

    async def look(self, seen: Position, newest: Event | None) -> Position:
        """Return the position of Redis, once all that was published up to it can be found.

        `newest` is the newest event that the caller has seen in this epoch.
        """
        known = (newest.topic, newest.sequence, round(newest.at * 1000)) if newest else ("", 0, 0)
        is_complete = False
        while not is_complete:
            epoch, top, is_complete = await self._run(self._look, [], seen, *known)
        return Position(epoch.decode(), top)

    async def _run(self, script: Any, keys: Iterable[str], seen: Position, *args: Any) -> Any:
        keys = [f"{PREFIX}position", f"{PREFIX}topics", f"{PREFIX}names", *keys]
        async with asking():
            return await script(keys, [f"{PREFIX}topic:", secrets.token_hex(4), *seen, *args])


async def check_format(url: str) -> None:
    """End the process with one line when a newer release has written what is in Redis.

    Without an answer it is no worse: the service can start before Redis does, and its scripts
    refuse the same data.
    """
    found = 0
    with suppress(Problem):
        async with asking(), Redis.from_url(url) as redis:
            found = int(await redis.hget(f"{PREFIX}position", "format") or 0)
    if found > FORMAT:
        sys.exit(
            "APP_REALTIME__BROKER_URL: the events there are of a newer release (format"
            f" {found}, this one reads up to {FORMAT}); run that release, choose another database,"
            f" or delete the keys {PREFIX}*: nothing was changed"
        )


@asynccontextmanager
async def asking() -> AsyncGenerator[None]:
    """Give Redis COMMAND_SECONDS; raises Problem 503 when it does not answer, or refuses."""
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            yield
    except (RedisError, OSError) as error:
        raise unavailable() from error


def parse_event(
    epoch: bytes, topic: bytes, sequence: bytes, previous: bytes, at: bytes, packed: bytes
) -> Event:
    """Return an event as the scripts have put it."""
    message = Message(*pydantic_core.from_json(packed))
    event_id = f"{epoch.decode()}-{sequence.decode()}"
    return Event(event_id, int(sequence), int(previous), topic.decode(), message, int(at) / 1000)


def unavailable() -> Problem:
    headers = {"Retry-After": "1"}
    return Problem(503, "The broker does not answer.", type=UNAVAILABLE, headers=headers)
