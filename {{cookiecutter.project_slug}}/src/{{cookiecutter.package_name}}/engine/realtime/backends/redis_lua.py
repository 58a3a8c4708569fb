"""What happens in Redis as one step for everybody: publishing, and bringing the index up to date.

Keys, all with one prefix: `position` (a hash: epoch, top; forgotten, the highest number of the
topics that are no longer known; indexed, the number up to which `names` and sizes are complete;
bytes, what all topics take, and `size:NAME`, of it each topic), `topics` (a sorted set: the last
number of each topic), `names` (the same topics, by name), `topic:NAME` (a stream: its events by
number), `keys` (a sorted set: Idempotency-Keys by number) and `once:KEY` (what one was used for).

`position` also has `format`, the version of all this; without it, it is the data of 0.1.0, which is
the same. Data of a newer format is refused, and stays as it is.

Up to version 1.0 there were no `names`, sizes and `keys`. Processes of both may share a Redis:
`topics` has all that the others published after `indexed`, and `names` what they have forgotten.
"""

FORMAT = 1

#: Both begin so. Numbers that somebody has seen must not be given out again for other events: when
#: Redis is behind what the caller knows (it came back with older data), a new epoch begins.
_POSITION = (
    f"local known_format = {FORMAT}"
    + """
local place, topics, names, prefix, topic = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[5]
local fresh, seen_epoch, seen_top = ARGV[2], ARGV[3], tonumber(ARGV[4])
local epoch, top, forgotten, indexed, total, format, size = unpack(redis.call(
  'HMGET', place, 'epoch', 'top', 'forgotten', 'indexed', 'bytes', 'format', 'size:' .. topic))
if tonumber(format or 0) > known_format then
  return redis.error_reply('NEWER The events are of a newer release (format ' .. format .. ').')
end
top, forgotten, indexed = tonumber(top or 0), tonumber(forgotten or 0), tonumber(indexed or 0)
total, size = tonumber(total or 0), tonumber(size or 0)
local is_known = epoch
if not epoch or (epoch == seen_epoch and top < seen_top) then
  epoch = fresh
  redis.call('HSET', place, 'epoch', epoch)
end
if not is_known then
  -- At the front of the hash, which Redis looks through in order as long as it is small.
  redis.call('HSET', place, 'top', top, 'forgotten', forgotten, 'indexed', indexed, 'bytes', total,
    'format', known_format)
  redis.call('UNLINK', topics, names)
end

-- About what a topic takes: memory is given out in steps, a quarter more than what was asked for.
local function weigh(bytes, events)
  return 5000 + 100 * events + math.floor(bytes * 1.25)
end

local function forget(name)
  redis.call('UNLINK', prefix .. name)
  redis.call('ZREM', topics, name)
  redis.call('ZREM', names, name)
  total = total - (redis.call('HGET', place, 'size:' .. name) or 0)
  redis.call('HDEL', place, 'size:' .. name)
end

-- Index and weigh some of the topics that others have published on without doing so.
local function catch_up(most)
  local found = redis.call(
    'ZRANGEBYSCORE', topics, '(' .. indexed, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #found, 2 do
    local name, kept = found[i], 0
    local stream = prefix .. name
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    if newest then
      local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
      kept = newest[2][4] + #newest[2][8] - oldest[2][4]
    end
    kept = weigh(kept, redis.call('XLEN', stream))
    redis.call('ZADD', names, 0, name)
    total = total + kept - (redis.call('HGET', place, 'size:' .. name) or 0)
    redis.call('HSET', place, 'size:' .. name, kept)
    indexed = tonumber(found[i + 1])
  end
  if #found < 2 * most then indexed = top end
  redis.call('HSET', place, 'indexed', indexed, 'bytes', total)
end
"""
)

#: KEYS: position, topics, names, keys, the topic's stream, and the one of the Idempotency-Key if
#: there is one. Returns the fingerprint that the key was first used with and the event's id, and
#: how many topics were forgotten for `max_topics` and for `max_total`, and keys for `max_keys`.
PUBLISH = (
    _POSITION
    + """
local keys, stream, once = KEYS[4], KEYS[5], KEYS[6]
local channel, message, fingerprint, remember = unpack(ARGV, 6, 9)
local events, bytes, age = ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local max_topics, max_total = tonumber(ARGV[13]), tonumber(ARGV[14])
local max_keys = tonumber(ARGV[15])

local first = once and redis.call('GET', once)
if first then return {first, 0, 0, 0} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('ZSCORE', topics, topic)
local is_indexed = indexed >= top
top = top + 1
if is_indexed then indexed = top end
-- The first write, like `XADD` for other topics, is one that a full Redis refuses: it refuses only
-- the first, and an `UNLINK` before it would let all others pass.
if not last then
  redis.call('ZADD', names, 0, topic)
  redis.call('UNLINK', stream)
end

-- `start`: bytes of the topic before this event, so that any two tell what lies between them.
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local start = newest and newest[2][4] + #newest[2][8] or 0
local id = top .. '-0'
redis.call('XADD', stream, 'MAXLEN', events, id,
  'floor', last or forgotten, 'start', start, 'at', now, 'message', message)
redis.call('ZADD', topics, top, topic)
-- A part of what is too much or too old goes with each event, which is more than one adds.
local kept, trimmed = 0, 0
while true do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  kept = start + #message - oldest[2][4]
  local fits = now - oldest[2][6] <= age and kept <= bytes
  if oldest[1] == id or fits or trimmed == 100 then break end
  redis.call('XDEL', stream, oldest[1])
  trimmed = trimmed + 1
end
kept = weigh(kept, redis.call('XLEN', stream))
total = total + kept - size

-- Of the keys and topics used on longest ago, a few that are too many, or have nothing left: when
-- there is one more of them, or no room.
local for_topics, for_total, for_keys = 0, 0, 0
local known_keys = 0
if once or total + 1000 * max_keys > max_total then known_keys = redis.call('ZCARD', keys) end
if once then
  known_keys = known_keys + redis.call('ZADD', keys, top, once)
  redis.call('EXPIRE', keys, remember)
end
for _ = 1, 16 do
  local key, used
  -- A key is at most some 450 bytes long, and kept twice.
  local is_full = total + 1000 * known_keys > max_total
  if last and not once and not is_full then break end
  if once or is_full then key, used = unpack(redis.call('ZRANGE', keys, 0, 0, 'WITHSCORES')) end
  local name, number = unpack(redis.call('ZRANGE', topics, 0, 0, 'WITHSCORES'))
  local many_keys = known_keys > max_keys
  local is_oldest = key and key ~= once and (name == topic or tonumber(used) <= tonumber(number))
  if key and key ~= once
    and (many_keys or (is_full and is_oldest) or redis.call('EXISTS', key) == 0) then
    redis.call('UNLINK', key)
    redis.call('ZREM', keys, key)
    known_keys = known_keys - 1
    if many_keys then for_keys = for_keys + 1 end
  else
    if name == topic then break end
    local many_topics = not last and redis.call('ZCARD', topics) > max_topics
    local has_some = redis.call('EXISTS', prefix .. name) == 1
    if has_some and not many_topics and not is_full then break end
    forget(name)
    redis.call('HSET', place, 'forgotten', number)
    if has_some and many_topics then
      for_topics = for_topics + 1
    elseif has_some then
      for_total = for_total + 1
    end
  end
end
redis.call(
  'HSET', place, 'top', top, 'indexed', indexed, 'bytes', total, 'format', known_format,
  'size:' .. topic, kept)
if not is_indexed then catch_up(20) end
-- Last, as a time that is over by now takes the stream away at once.
redis.call('PEXPIRE', stream, age)

-- To those who follow it a forgotten topic is nothing new: no event before this one is missing.
redis.call('PUBLISH', channel, table.concat({epoch, top, last or 0, now, message}, ' '))
local answer = fingerprint .. ' ' .. epoch .. '-' .. top
if once then redis.call('SET', once, answer, 'EX', remember) end
return {answer, for_topics, for_total, for_keys}
"""
)

#: KEYS: position, topics, names. Returns epoch, top, and whether the index is complete: otherwise
#: the caller asks again, as a step is a short one.
LOOK = (
    """
-- A write that a full Redis allows, but a replica does not, which so is not listened to.
redis.call('PERSIST', KEYS[1])
"""
    + _POSITION
    + """
local number, at = tonumber(ARGV[6]), ARGV[7]

local function floor_of(topic)
  local last = redis.call('ZSCORE', topics, topic)
  local oldest = last and redis.call('XRANGE', prefix .. topic, '-', '+', 'COUNT', 1)[1]
  return tonumber(oldest and oldest[2][2] or last or forgotten)
end

-- The newest event that the caller has seen: when it should be here and is not, or is another, then
-- others have gone on from older data already.
if epoch == seen_epoch and topic ~= '' and floor_of(topic) < number then
  local id = string.format('%.0f-0', number)
  local event = redis.call('XRANGE', prefix .. topic, id, id)[1]
  if not event or event[2][6] ~= at then
    epoch = fresh
    redis.call('HSET', place, 'epoch', epoch)
  end
end

local too_many = redis.call('ZCARD', names) - redis.call('ZCARD', topics)
if indexed >= top and too_many < 0 then indexed = 0 end
if indexed < top then
  catch_up(100)
elseif too_many > 0 then
  -- Others have forgotten topics without their names: look at some, and at the next ones next time.
  local swept = redis.call('HGET', place, 'swept')
  local from = swept and swept ~= '' and '(' .. swept or '-'
  local some = redis.call('ZRANGEBYLEX', names, from, '+', 'LIMIT', 0, 200)
  for _, name in ipairs(some) do
    if not redis.call('ZSCORE', topics, name) then forget(name) end
  end
  redis.call('HSET', place, 'swept', some[200] or '', 'bytes', total)
end
local is_complete = indexed >= top and redis.call('ZCARD', names) == redis.call('ZCARD', topics)
return {epoch, top, is_complete and 1 or 0}
"""
)
