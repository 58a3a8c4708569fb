"""What happens in Redis, each script as one step for everybody.

Keys, all behind one prefix: `position` (a hash: epoch, top, and forgotten, the highest number of
the topics that are no longer known), `topics` (a sorted set: the last number of each topic),
`topic:NAME` (a stream: its events by number) and `once:KEY` (what an Idempotency-Key was used for).
"""

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pydantic_core
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ...settings import RealtimeSettings
from ...streaming import Problem, problem_type
from ..messages import Message
from ..ring import Event
from ..topics import Position
from . import Once

UNAVAILABLE = problem_type(
    "broker-unavailable",
    "The broker does not answer",
    "Events cannot be published or read now. Come back after the seconds that `Retry-After` says,"
    " with the same `Idempotency-Key`: what was published may have arrived.",
)
#: Seconds that a command may take.
COMMAND_SECONDS = 3.0
#: Seconds for which an Idempotency-Key is remembered.
REMEMBER_SECONDS = 86400
#: Bytes of events that are read at once; of topics beyond that a gap is told.
READ_BYTES = 8 << 20
#: In braces, which keep all keys in one slot.
PREFIX = "{" + __name__.partition(".")[0] + "}:"

#: Both begin so. Numbers that somebody has seen must not be given out again for other events: when
#: Redis is behind what the caller knows (it came back with older data), a new epoch begins.
_POSITION = """
local place, topics, prefix = KEYS[1], KEYS[2], ARGV[1]
local fresh, seen_epoch, seen_top = ARGV[2], ARGV[3], tonumber(ARGV[4])
local epoch, top, forgotten = unpack(redis.call('HMGET', place, 'epoch', 'top', 'forgotten'))
top, forgotten = tonumber(top or 0), tonumber(forgotten or 0)
local is_known = epoch
if not epoch or (epoch == seen_epoch and top < seen_top) then
  epoch = fresh
  redis.call('HSET', place, 'epoch', epoch)
end
if not is_known then redis.call('DEL', topics) end
"""

#: KEYS: position, topics, the topic's stream, and the one of the Idempotency-Key if there is one.
#: Returns the fingerprint that the key was first used with, and the event's id.
PUBLISH = (
    _POSITION
    + """
local stream, once = KEYS[3], KEYS[4]
local channel, topic, message, fingerprint, remember = unpack(ARGV, 5, 9)
local events, bytes, age, max_topics = unpack(ARGV, 10, 13)
bytes, age, max_topics = tonumber(bytes), tonumber(age), tonumber(max_topics)

local first = once and redis.call('GET', once)
if first then return first end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('ZSCORE', topics, topic)
-- The first write, as a full Redis refuses only that: a `DEL` before it would let all others pass.
top = redis.call('HINCRBY', place, 'top', 1)
redis.call('ZADD', topics, top, topic)
if not last then redis.call('DEL', stream) end

-- `start`: bytes of the topic before this event, so that any two tell what lies between them.
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local start = newest and newest[2][4] + #newest[2][8] or 0
local id = top .. '-0'
redis.call('XADD', stream, 'MAXLEN', events, id,
  'floor', last or forgotten, 'start', start, 'at', now, 'message', message)
while true do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local at, kept = oldest[2][6], start + #message - oldest[2][4]
  if oldest[1] == id or (now - at <= age and kept <= bytes) then break end
  redis.call('XDEL', stream, oldest[1])
end

-- A few of the topics published on longest ago, when they are too many or have nothing left.
for _ = 1, 4 do
  local name, number = unpack(redis.call('ZRANGE', topics, 0, 0, 'WITHSCORES'))
  local too_many = redis.call('ZCARD', topics) > max_topics
  if not too_many and redis.call('EXISTS', prefix .. name) == 1 then break end
  redis.call('DEL', prefix .. name)
  redis.call('ZREM', topics, name)
  redis.call('HSET', place, 'forgotten', number)
end
-- Last, as a time that is over by now takes the stream away at once.
redis.call('PEXPIRE', stream, age)

-- To those who follow it a forgotten topic is nothing new: no event before this one is missing.
redis.call('PUBLISH', channel, table.concat({epoch, top, last or 0, now, message}, ' '))
local answer = fingerprint .. ' ' .. epoch .. '-' .. top
if once then redis.call('SET', once, answer, 'EX', remember) end
return answer
"""
)

#: KEYS: position, topics. ARGV from 9 on: names, each with the number behind which to read.
#: Returns epoch, top and rows: name, topic, the number up to which events are gone, the others.
READ = (
    _POSITION
    + """
local topic, number, at, room = unpack(ARGV, 5, 8)
room = tonumber(room)

local function between(topic, from, to)
  return redis.call('XRANGE', prefix .. topic, from, to)
end

local function floor_of(topic)
  local last = redis.call('ZSCORE', topics, topic)
  local oldest = last and redis.call('XRANGE', prefix .. topic, '-', '+', 'COUNT', 1)[1]
  return tonumber(oldest and oldest[2][2] or last or forgotten)
end

-- The newest event that the caller has seen: when it should be here and is not, or is another, then
-- others have gone on from older data already.
if epoch == seen_epoch and topic ~= '' and floor_of(topic) < tonumber(number) then
  local event = between(topic, number .. '-0', number .. '-0')[1]
  if not event or event[2][6] ~= at then
    epoch = fresh
    redis.call('HSET', place, 'epoch', epoch)
  end
end
-- A write that a full Redis allows, but a replica does not, which so is not listened to.
redis.call('PERSIST', place)

local rows, done = {}, {}

local function read(name, topic, after)
  if done[topic] then return end
  done[topic] = true
  local floor, events = floor_of(topic), {}
  local last = tonumber(redis.call('ZSCORE', topics, topic))
  if last and last <= after then return end
  if last then events = between(topic, string.format('%.0f-0', after + 1), '+') end
  for _, event in ipairs(events) do room = room - 100 - #event[2][8] end
  if room < 0 then floor, events = last or floor, {} end  -- Too much: told as gone.
  rows[#rows + 1] = {name, topic, floor, events}
end

for i = 9, #ARGV, 2 do
  local name, after = ARGV[i], tonumber(ARGV[i + 1])
  if name:sub(-2) == '.*' then
    rows[#rows + 1] = {name, name, forgotten, {}}
    for _, topic in ipairs(redis.call('ZRANGEBYSCORE', topics, '(' .. after, '+inf')) do
      if topic:sub(1, #name - 1) == name:sub(1, -2) then read(name, topic, after) end
    end
  else
    read(name, name, after)
  end
end
return {epoch, top, rows}
"""
)


class Row(NamedTuple):
    """Events of a topic that was read for a name, and the number up to which others are gone."""

    name: str
    topic: str
    floor: int
    events: list[Event]


class Scripts:
    """The scripts as functions; `seen` is the position that the caller knows of.

    They raise Problem 503 with Retry-After when Redis does not answer.
    """

    def __init__(self, redis: Redis, settings: RealtimeSettings) -> None:
        self._publish = redis.register_script(PUBLISH)
        self._read = redis.register_script(READ)
        self._bounds = (
            settings.history_size,
            settings.history_bytes,
            round(settings.history_age * 1000),
            settings.max_topics,
        )
        self._room = max(READ_BYTES, settings.history_bytes + 100 * settings.history_size)

    async def publish(
        self, seen: Position, channel: str, topic: str, message: Message, once: Once | None
    ) -> Position:
        """Return where the message is now, or was before; raises Problem 422 like `Once`."""
        keys = [f"{PREFIX}topic:{topic}"]
        if once is not None:
            keys.append(f"{PREFIX}once:{once.key}")
        packed = pydantic_core.to_json([message.data, message.event, message.is_json, message.key])
        fingerprint = once.fingerprint if once else "-"
        args = (channel, topic, packed, fingerprint, REMEMBER_SECONDS, *self._bounds)
        answer = await self._run(self._publish, keys, seen, *args)
        first, event_id = answer.decode().split(" ")
        if once is not None:
            once.refuse_other(first)
        return Position.parse(event_id)

    async def read(
        self, seen: Position, newest: Event | None, after: Mapping[str, int]
    ) -> tuple[Position, list[Row]]:
        """Return the position of Redis, and what it keeps of topics and prefixes behind numbers.

        `newest` is the newest event that the caller has seen in this epoch.
        """
        known = (newest.topic, newest.sequence, round(newest.at * 1000)) if newest else ("", 0, 0)
        # Topics before prefixes, which leave out what was read by then.
        names = sorted(after.items(), key=lambda item: item[0].endswith(".*"))
        args = (*known, self._room, *(part for item in names for part in item))
        epoch, top, found = await self._run(self._read, [], seen, *args)
        rows = []
        for name, topic, floor, entries in found:
            events = [
                parse_event(epoch, topic, entry_id.partition(b"-")[0], b"0", fields[5], fields[7])
                for entry_id, fields in entries
            ]
            rows.append(Row(name.decode(), topic.decode(), floor, events))
        return Position(epoch.decode(), top), rows

    async def _run(self, script: Any, keys: Iterable[str], seen: Position, *args: Any) -> Any:
        keys = [f"{PREFIX}position", f"{PREFIX}topics", *keys]
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                return await script(keys, [f"{PREFIX}topic:", secrets.token_hex(4), *seen, *args])
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
