"""The data in Redis: its format is checked, and histories are read in short steps.

A step takes Redis about a millisecond. It consists of plain commands, which cost Redis a fifth of
the same commands in a script. Changes between two steps are noticed: the reader has subscribed
before, a dropped topic raises the number `forgotten`, and a stream that lost events has a higher
`floor`.
"""

import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from math import inf
from typing import Any

import pydantic_core
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from ...kernel.problem import Problem
from ..messages import Message
from ..ring import Event, History
from ..settings import RealtimeSettings
from .redis_lua import FORMAT
from .redis_pool import PREFIX, ask, pool_of, unavailable

#: Bytes of events that are read for one request; topics beyond that get a `reset`.
READ_BYTES = 8 << 20
#: Names of topics in one step.
NAMES = 500
#: Streams and events in one step.
STREAMS, EVENTS = 64, 512
#: Streams and events for one request: each takes 30 µs of CPU here, and 5 µs in Redis.
MOST = 1000
#: Bytes of a stream or an event, besides its data, that count in READ_BYTES.
OVERHEAD = 512

_PLACE, _TOPICS, _NAMES = f"{PREFIX}position", f"{PREFIX}topics", f"{PREFIX}names"


async def check_format(url: str) -> None:
    """End the process with one line if the broker of the settings cannot be used.

    The URL is invalid, a newer release has written the data, or Redis refuses the user. Returns if
    Redis is unavailable: the service can start first, and its scripts refuse the same data.
    """
    reason = ""
    try:
        async with Redis.from_pool(pool_of(url)) as redis:
            found = await ask(redis, lambda: redis.hget(_PLACE, "format"))
            await ask(redis, redis.register_script("return 1"))
        if int(found or 0) > FORMAT:
            reason = (
                f"it contains events of a newer release (format {int(found)}, this one reads up to"
                f" {FORMAT}); run that release, choose another database, or delete the keys"
                f" {PREFIX}*: nothing was changed"
            )
    except ValueError as error:
        sys.exit(str(error))
    except Problem as problem:
        if isinstance(problem.__cause__, NoPermissionError | AuthenticationError):
            reason = f"Redis refuses the user: {problem.__cause__}"
    if reason:
        sys.exit(f"APP_REALTIME__BROKER_URL: {reason}")


def parse_event(
    epoch: bytes, topic: bytes, sequence: bytes, previous: bytes, at: bytes, packed: bytes
) -> Event:
    """Return an event from the values that PUBLISH writes."""
    message = Message(*pydantic_core.from_json(packed))
    event_id = f"{epoch.decode()}-{sequence.decode()}"
    return Event(event_id, int(sequence), int(previous), topic.decode(), message, int(at) / 1000)


class Reading:
    """Reads the data of one epoch; raises Problem 503 if another one has begun."""

    def __init__(self, redis: Redis, settings: RealtimeSettings, epoch: str) -> None:
        self._redis = redis
        self._epoch = epoch.encode()
        least = settings.history_bytes + OVERHEAD * (settings.history_size + 1)
        self._room = max(READ_BYTES, least)
        #: Streams and events that are read: at least the whole history of one topic.
        self.most = max(MOST, settings.history_size + 1)
        #: The values at the last step.
        self.top = self.forgotten = 0

    async def try_all(self) -> None:
        """Run all commands once, for a topic that cannot exist: the user may lack permissions."""
        await self.named(" .")
        await self.lasts([" "])
        await self.events({" ": 0}, 0)

    async def named(self, prefix: str) -> list[str]:
        """Return the topics that begin with a prefix, which ends with a dot."""
        found: list[str] = []
        start, end = f"[{prefix}", f"({prefix[:-1]}/"  # "/" follows ".".
        while True:
            [names] = await self._step([("ZRANGEBYLEX", _NAMES, start, end, "LIMIT", 0, NAMES)])
            found += [name.decode() for name in names]
            if len(names) < NAMES:
                return found
            start = f"({found[-1]}"

    async def changed(self, since: int) -> AsyncGenerator[dict[str, int]]:
        """Yield the topics with events after a number, some at a time, with the newest of each.

        At the end these are all topics with events from `since` to `top`: a topic that is published
        on meanwhile moves to a later step.
        """
        while True:
            command = ("ZRANGEBYSCORE", _TOPICS, f"({since}", "+inf", "WITHSCORES", "LIMIT", 0)
            [found] = await self._step([(*command, NAMES)])
            pairs = zip(found[::2], found[1::2], strict=True)
            some = {name.decode(): int(score) for name, score in pairs}
            yield some
            if len(some) < NAMES:
                return
            since = max(some.values())

    async def lasts(self, topics: list[str]) -> dict[str, int]:
        """Return the newest number of each topic that Redis knows, the highest one first."""
        found: dict[str, int] = {}
        for at in range(0, len(topics), NAMES):
            some = topics[at : at + NAMES]
            [scores] = await self._step([("ZMSCORE", _TOPICS, *some)])
            found |= {t: int(score) for t, score in zip(some, scores, strict=True) if score}
        return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))

    async def events(
        self, after: Mapping[str, int], until: int, most: float = inf
    ) -> tuple[dict[str, History], set[str]]:
        """Return the events of topics after a number each, up to `until`; and the unread topics.

        Topics are unread if there are more than `most` streams and events, or more than READ_BYTES.
        """
        queue, room = deque(after.items()), self._room
        found: dict[str, History] = {}
        while queue and room > 0 and most > 0:
            some = [queue.popleft() for _ in range(min(len(queue), STREAMS))]
            count = max(EVENTS // len(some), 8)
            commands: list[tuple[str | int, ...]] = []
            for topic, number in some:
                stream, start = f"{PREFIX}topic:{topic}", f"{number + 1}-0"
                commands.append(("ZSCORE", _TOPICS, topic))
                commands.append(("XRANGE", stream, start, "+", "COUNT", count))
            replies = await self._step(commands)
            for (topic, number), last, entries in zip(
                some, replies[::2], replies[1::2], strict=True
            ):
                if room <= 0 or most <= 0:
                    queue.append((topic, number))
                    continue
                part = self._history(topic, number, last, entries)
                most -= 1 + len(entries)
                room -= OVERHEAD + sum(OVERHEAD + len(fields[7]) for _, fields in entries)
                known = found.get(topic)
                if known is not None and part.floor <= number:  # No gap since the last step.
                    part = History(known.floor, known.events + part.events)
                if len(entries) == count and part.events[-1].sequence < until:
                    queue.appendleft((topic, part.events[-1].sequence))
                events = [event for event in part.events if event.sequence <= until]
                found[topic] = History(part.floor, events)
        unread = {topic for topic, _ in queue}
        return {topic: part for topic, part in found.items() if topic not in unread}, unread

    def _history(self, topic: str, number: int, last: bytes | None, entries: Any) -> History:
        if last is None:  # The topic was dropped after these entries.
            entries.clear()
            return History(self.forgotten, [])
        if not entries:
            return History(max(number, int(last)), [])
        events = [
            parse_event(self._epoch, topic.encode(), at.partition(b"-")[0], b"0", each[5], each[7])
            for at, each in entries
        ]
        return History(int(entries[0][1][1]), events)

    async def _step(self, commands: list[tuple[str | int, ...]]) -> Any:
        """Run commands at once and return their replies.

        Not as a transaction, which a full Redis refuses. `top` is read before them and `forgotten`
        after them, so a change in between is read again or reported as a gap.
        """

        async def run() -> Any:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.execute_command("HGET", _PLACE, "top")
                for command in commands:
                    pipe.execute_command(*command)
                pipe.execute_command("HMGET", _PLACE, "epoch", "forgotten")
                return await pipe.execute()

        top, *replies, (epoch, forgotten) = await ask(self._redis, run)
        if (epoch or b"") != self._epoch:
            raise unavailable()
        self.top, self.forgotten = int(top or 0), int(forgotten or 0)
        return replies
