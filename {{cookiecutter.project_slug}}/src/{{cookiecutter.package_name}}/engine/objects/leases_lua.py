"""The scripts that Redis runs as one step: ask for a lease, take it, renew all, and release it.

The keys, all with one prefix:

* `lease:NAME`: the lease and its last holder, as `token fence taken_over`. It is held as long as it
  has more than KEEP - TTL left to live; later another may take it. `release` deletes it, so a key
  that is not held any more is that of a dead holder.
* `asks`, a sorted set: the newest ticket that was asked for, of each of the last 10,000 names.
* `state`, a hash: `number`, the highest fence and ticket so far; `server`, the run of Redis that
  wrote it; `id`, of these data.
* `quiet`: exists for some time after Redis was started or lost its data.

Redis may lose its last changes, or all, when it restarts or another server takes its place. So no
lease can be taken for the first TTL: within this time, a holder either renews its lease, which
restores it, or considers it lost.
"""

#: Milliseconds for which a lease is held without being renewed, for which its last holder is
#: remembered after that, and for which it is unknown after a restart of Redis.
TTL, KEEP, UNSURE = 3_000, 7 * 86_400_000, 600_000

#: The beginning of all scripts. The number grows with each use, also if the data or the clock of
#: Redis are older than those of the caller.
_BEGIN = (
    f"local ttl, keep, unsure = {TTL}, {KEEP}, {UNSURE}"
    + """
local state, quiet, asks = KEYS[1], KEYS[2], KEYS[3]
local number = math.max(tonumber(redis.call('HGET', state, 'number') or 0), tonumber(ARGV[1]))

local function next_number()
  local time = redis.call('TIME')
  number = math.max(number + 1, time[1] * 1000000 + time[2])
  redis.call('HSET', state, 'number', string.format('%.0f', number))
  return string.format('%.0f', number)
end

local function look()
  -- Some users and some hosted servers have no INFO.
  local info = redis.pcall('INFO', 'server')
  local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or '-'
  if redis.call('HGET', state, 'server') ~= server then
    redis.call('HSET', state, 'server', server)
    redis.call('SET', quiet, 1, 'PX', unsure)
  end
end
"""
)

#: ARGV: the highest known number, the name. Returns a ticket.
ASK = (
    _BEGIN
    + """
local ticket = next_number()
redis.call('ZREMRANGEBYRANK', asks, 0, -10000)
redis.call('ZADD', asks, ticket, ARGV[2])
return ticket
"""
)

#: KEYS: the lease. ARGV: the highest known number, the name, and a token. Returns nothing if
#: another holds the lease; `quiet` and milliseconds if no lease can be taken for so long; or the
#: value of the lease and the newest ticket.
TAKE = (
    _BEGIN
    + """
look()
local lease, name, token = KEYS[4], ARGV[2], ARGV[3]
local value = redis.call('GET', lease)
if value and string.sub(value, 1, #token) == token then  -- A repeated call.
  return {value, redis.call('ZSCORE', asks, name) or '0'}
end
local rest = redis.call('PTTL', quiet)
if rest > unsure - ttl then return {'quiet', rest - unsure + ttl} end
if value and redis.call('PTTL', lease) > keep - ttl then return false end
value = table.concat({token, next_number(), (value or rest > 0) and 1 or 0}, ' ')
redis.call('SET', lease, value, 'PX', keep)
return {value, redis.call('ZSCORE', asks, name) or '0'}
"""
)

#: KEYS: the leases. ARGV: the highest known number, an id, and the values of the leases. Returns
#: the id of these data, the highest number, and for each lease whether it is still held.
RENEW = (
    _BEGIN
    + """
look()
local id, known = unpack(redis.call('HMGET', state, 'id', 'number'))
if not id then redis.call('HSET', state, 'id', ARGV[2]) end
if tonumber(known or 0) < number then
  redis.call('HSET', state, 'number', string.format('%.0f', number))
end
local function fence_of(value) return tonumber(string.match(value, ' (%d+) ')) end
local replies = {id or ARGV[2], string.format('%.0f', number)}
for i = 4, #KEYS do
  local mine, value = ARGV[i - 1], redis.call('GET', KEYS[i])
  -- A lower fence is that of an earlier holder, in older data.
  local is_held = not value or fence_of(value) <= fence_of(mine)
  if is_held and value == mine then  -- A full Redis refuses SET.
    redis.call('PEXPIRE', KEYS[i], keep)
  elseif is_held then
    redis.call('SET', KEYS[i], mine, 'PX', keep)
  end
  replies[i - 1] = is_held and 1 or 0
end
return replies
"""
)

#: KEYS: the lease. ARGV: the highest known number, and the value of the lease.
RELEASE = (
    _BEGIN
    + """
if redis.call('GET', KEYS[4]) == ARGV[2] then redis.call('DEL', KEYS[4]) end
"""
)
