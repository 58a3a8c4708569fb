"""What Redis keeps of topics, read in steps that each take it a millisecond or so.

A step is a few plain commands, which cost Redis a fifth of the same in a script. What
happens between two steps is found: whoever reads is subscribed already, a topic that is forgotten
raises the number of forgotten ones, and a stream that lost events says so by `floor`.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from math import inf
from typing import Any, NamedTuple

from redis.asyncio import Redis

from ..ring import Event
from ..settings import RealtimeSettings
from . import redis_scripts
from .redis_scripts import PREFIX, asking, parse_event, unavailable

#: Names of topics in one step.
NAMES = 500
#: Streams and events in one step.
STREAMS, EVENTS = 64, 512
#: Streams and events of all steps for one request: each is 30 µs of CPU, and 5 µs of Redis.
MOST = 1000
#: What a stream or an event takes of the bytes that are read at once, besides its data.
OVERHEAD = 512

_PLACE, _TOPICS, _NAMES = f"{PREFIX}position", f"{PREFIX}topics", f"{PREFIX}names"


class Row(NamedTuple):
    """Events of a topic, and the number up to which others are gone."""

    floor: int
    events: list[Event]


class Reading:
    """What is read in one epoch; raises Problem 503 when another has begun, as without Redis."""

    def __init__(self, redis: Redis, settings: RealtimeSettings, epoch: str) -> None:
        # Of a client without callbacks, which make other things of the replies.
        self._redis = redis
        self._epoch = epoch.encode()
        least = settings.history_bytes + OVERHEAD * (settings.history_size + 1)
        self._room = max(redis_scripts.READ_BYTES, least)
        #: So many that the history of a topic is read to its end.
        self.most = max(MOST, settings.history_size + 1)
        #: As of the last step.
        self.top = self.forgotten = 0

    async def named(self, prefix: str) -> list[str]:
        """Return the topics that begin with a prefix, which ends with a dot."""
        found: list[str] = []
        start, end = f"[{prefix}", f"({prefix[:-1]}/"  # The character behind the dot.
        while True:
            command = ("ZRANGEBYLEX", _NAMES, start, end, "LIMIT", 0, NAMES)
            [names] = await self._step([command])
            found += [name.decode() for name in names]
            if len(names) < NAMES:
                return found
            start = f"({found[-1]}"

    async def changed(self, since: int) -> AsyncGenerator[dict[str, int]]:
        """Yield the topics with events of higher numbers, some at a time, with the last of each.

        When this ends, it has yielded all topics with events from `since` to `top`, as one that
        is published on meanwhile only comes later.
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
        """Return the last number of each topic that is known, the highest one first."""
        found: dict[str, int] = {}
        for at in range(0, len(topics), NAMES):
            some = topics[at : at + NAMES]
            [scores] = await self._step([("ZMSCORE", _TOPICS, *some)])
            found |= {t: int(score) for t, score in zip(some, scores, strict=True) if score}
        return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))

    async def events(
        self, after: Mapping[str, int], until: int, most: float = inf
    ) -> tuple[dict[str, Row], set[str]]:
        """Return events by topic, from behind a number up to `until`; and topics without room.

        There is room for `most` streams and events.
        """
        queue, room = deque(after.items()), self._room
        rows: dict[str, Row] = {}
        while queue and room > 0 and most > 0:
            some = [queue.popleft() for _ in range(min(len(queue), STREAMS))]
            count = max(EVENTS // len(some), 8)
            for (topic, number), (last, entries) in zip(
                some, await self._streams(some, count), strict=True
            ):
                if room <= 0 or most <= 0:
                    queue.append((topic, number))
                    continue
                row = self._row(topic, number, last, entries)
                most -= 1 + len(entries)
                room -= OVERHEAD + sum(OVERHEAD + len(fields[7]) for _, fields in entries)
                known = rows.get(topic)
                if known is not None and row.floor <= number:  # No gap since the step before.
                    row = Row(known.floor, known.events + row.events)
                if len(entries) == count and row.events[-1].sequence < until:
                    queue.appendleft((topic, row.events[-1].sequence))
                rows[topic] = Row(row.floor, [e for e in row.events if e.sequence <= until])
        unread = {topic for topic, _ in queue}
        return {topic: row for topic, row in rows.items() if topic not in unread}, unread

    async def _streams(
        self, some: list[tuple[str, int]], count: int
    ) -> Iterable[tuple[bytes | None, Any]]:
        commands: list[tuple[str | int, ...]] = []
        for topic, number in some:
            stream = f"{PREFIX}topic:{topic}"
            commands.append(("ZSCORE", _TOPICS, topic))
            commands.append(("XRANGE", stream, f"{number + 1}-0", "+", "COUNT", count))
        replies = await self._step(commands)
        return zip(replies[::2], replies[1::2], strict=True)

    def _row(self, topic: str, number: int, last: bytes | None, entries: Any) -> Row:
        if last is None:  # Forgotten; what a stream may have was before that.
            entries.clear()
            return Row(self.forgotten, [])
        if not entries:
            return Row(max(number, int(last)), [])
        events = [
            parse_event(self._epoch, topic.encode(), at.partition(b"-")[0], b"0", each[5], each[7])
            for at, each in entries
        ]
        return Row(int(entries[0][1][1]), events)

    async def _step(self, commands: Iterable[tuple[str | int, ...]]) -> Any:
        """Run commands at once; return their replies.

        Not as a transaction, which a full Redis refuses. So the top is read before them and the
        number of the forgotten after them: what happens in between is read again, or told as gone.
        """
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("HGET", _PLACE, "top")
            for command in commands:
                pipe.execute_command(*command)
            pipe.execute_command("HMGET", _PLACE, "epoch", "forgotten")
            top, *replies, (epoch, forgotten) = await pipe.execute()
        if epoch != self._epoch:
            raise unavailable()
        self.top, self.forgotten = int(top or 0), int(forgotten or 0)
        return replies
