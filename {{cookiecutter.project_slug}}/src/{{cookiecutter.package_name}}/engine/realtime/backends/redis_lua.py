"""The scripts that Redis runs as one step: publish an event, and return the newest position.

The keys, all with one prefix:

* `position`, a hash: `epoch`; `top`; `forgotten`, the highest number of the dropped topics;
  `bytes`, the size of all topics; `size:NAME`, the size of each topic; `format`, the version of
  this layout.
* `topics`, a sorted set: the newest number of each topic. `names`: the same topics, by name.
* `topic:NAME`, a stream: the events of a topic by number.
* `keys`, a sorted set: the Idempotency-Keys by number. `once:KEY`: the fingerprint and the event of
  a key.

Data without a format is that of 0.1.0, which is the same as format 1; 0.1.0 also reads `indexed`,
which always equals top. Data of a newer format is refused and not changed.
"""

FORMAT = 1

#: The beginning of both scripts. A number must not be used for two events: if the position of the
#: caller is higher than that of Redis (which was restored from older data), a new epoch begins.
_POSITION = (
    f"local known_format = {FORMAT}"
    + """
local place, topics, names, prefix, topic = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[5]
local fresh, seen_epoch, seen_top = ARGV[2], ARGV[3], tonumber(ARGV[4])
local epoch, top, forgotten, total, format, size = unpack(redis.call(
  'HMGET', place, 'epoch', 'top', 'forgotten', 'bytes', 'format', 'size:' .. topic))
if tonumber(format or 0) > known_format then
  return redis.error_reply('NEWER The events are of a newer release (format ' .. format .. ').')
end
top, forgotten = tonumber(top or 0), tonumber(forgotten or 0)
total, size = tonumber(total or 0), tonumber(size or 0)
local is_new = not epoch or (epoch == seen_epoch and top < seen_top)
local is_whole = epoch and (top <= forgotten or redis.call('EXISTS', topics, names) == 2)
if is_new then epoch = fresh end
if is_new or not is_whole then redis.call('HSET', place, 'epoch', epoch) end
if not is_whole then
  -- These keys are new, or one of them was evicted: all topics are forgotten, which is a gap for
  -- clients with an older position.
  redis.call('UNLINK', place, topics, names)
  forgotten, total, size = top, 0, 0
  -- At the front of the hash, which Redis searches in order as long as it is small.
  redis.call('HSET', place, 'epoch', epoch, 'top', top, 'forgotten', forgotten, 'indexed', top,
    'bytes', total, 'format', known_format)
end
"""
)

#: KEYS: position, topics, names, keys, the topic's stream, and that of the Idempotency-Key if there
#: is one. Returns the fingerprint of the key's first use and the event's id, and how many topics
#: were dropped because of `max_topics` and `max_total`, and keys because of `max_keys`; or "newer"
#: and the id of the topic's newest event, if the caller knows only an older one.
PUBLISH = (
    _POSITION
    + """
local keys, stream, once = KEYS[4], KEYS[5], KEYS[6]
local channel, message, fingerprint, remember = unpack(ARGV, 6, 9)
local events, bytes, age = ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local max_topics, max_total = tonumber(ARGV[13]), tonumber(ARGV[14])
local max_keys = tonumber(ARGV[15])
local newest_known = tonumber(ARGV[16])

local first = once and redis.call('GET', once)
if first then return {first, 0, 0, 0} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('ZSCORE', topics, topic)
if newest_known and tonumber(last or 0) > newest_known then
  return {'newer ' .. epoch .. '-' .. last, 0, 0, 0}
end
top = top + 1
-- A full Redis checks only the first write of a script, so that must be one that it refuses (like
-- `XADD` for known topics), not the `UNLINK`.
if not last then
  redis.call('ZADD', names, 0, topic)
  redis.call('UNLINK', stream)
end

-- `start`: the bytes of the topic before this event; two of them give the bytes between.
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local start = newest and newest[2][4] + #newest[2][8] or 0
-- Its number was not recorded if its publication failed halfway, for lack of a permission.
top = math.max(top, newest and tonumber(string.match(newest[1], '%d+')) + 1 or 0)
local id = top .. '-0'
redis.call('XADD', stream, 'MAXLEN', events, id,
  'floor', last or forgotten, 'start', start, 'at', now, 'message', message)
redis.call('ZADD', topics, top, topic)
-- Each event evicts some of those that are too old or exceed the bounds: more than it adds.
local kept, trimmed = 0, 0
while true do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  kept = start + #message - oldest[2][4]
  local fits = now - oldest[2][6] <= age and kept <= bytes
  if oldest[1] == id or fits or trimmed == 100 then break end
  redis.call('XDEL', stream, oldest[1])
  trimmed = trimmed + 1
end
-- About the memory of a topic: Redis allocates in steps, a quarter more than what was asked for.
kept = 5000 + 100 * redis.call('XLEN', stream) + math.floor(kept * 1.25)
total = total + kept - size

-- Drop a few of the least recently used keys and topics, if there is a new one or no room: those
-- that exceed the bounds or are empty.
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
    redis.call('UNLINK', prefix .. name)
    redis.call('ZREM', topics, name)
    redis.call('ZREM', names, name)
    total = total - (redis.call('HGET', place, 'size:' .. name) or 0)
    redis.call('HDEL', place, 'size:' .. name)
    redis.call('HSET', place, 'forgotten', number)
    if has_some and many_topics then
      for_topics = for_topics + 1
    elseif has_some then
      for_total = for_total + 1
    end
  end
end
redis.call(
  'HSET', place, 'top', top, 'indexed', top, 'bytes', total, 'format', known_format,
  'size:' .. topic, kept)
-- Last, as an age of 0 deletes the stream at once.
redis.call('PEXPIRE', stream, age)

-- A topic that was dropped begins with 0: its subscribers have received all events before this one.
redis.call('PUBLISH', channel, table.concat({epoch, top, last or 0, now, message}, ' '))
local reply = fingerprint .. ' ' .. epoch .. '-' .. top
if once then redis.call('SET', once, reply, 'EX', remember) end
return {reply, for_topics, for_total, for_keys}
"""
)

#: KEYS: position, topics, names. Returns epoch and top. It only writes if these cannot be used, so
#: that events can be read while Redis refuses writes.
LOOK = (
    _POSITION
    + """
local number, at = tonumber(ARGV[6]), ARGV[7]

local function floor_of(topic)
  local last = redis.call('ZSCORE', topics, topic)
  local oldest = last and redis.call('XRANGE', prefix .. topic, '-', '+', 'COUNT', 1)[1]
  return tonumber(oldest and oldest[2][2] or last or forgotten)
end

-- The newest event that the caller has received: if it is missing or another one has its number,
-- Redis was restored from older data and others have published since.
if epoch == seen_epoch and topic ~= '' and floor_of(topic) < number then
  local id = string.format('%.0f-0', number)
  local event = redis.call('XRANGE', prefix .. topic, id, id)[1]
  if not event or event[2][6] ~= at then
    epoch = fresh
    redis.call('HSET', place, 'epoch', epoch)
  end
end
return {epoch, top}
"""
)
