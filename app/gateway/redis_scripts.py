"""What Redis runs for the store of streams, each in one step that no other command divides.

Of one owner there are the hash of every stream, which expires, and two sorted sets: ``ages``, when
a stream was last added to, in milliseconds, kept for twice as long as the stream, and ``names``,
all of one score, for lists. A stream that is in ``ages`` without a hash is lost. Times are those of
the Redis server, so that clocks of gateways may differ.
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_TOUCH = """
redis.call('HSET', KEYS[1], 'record', record, 'digest', digest, 'updated_at', now)
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('ZADD', KEYS[2], now, member)
redis.call('ZADD', KEYS[3], 0, member)
redis.call('PEXPIRE', KEYS[2], 2 * ttl)
redis.call('PEXPIRE', KEYS[3], 2 * ttl)
"""

GET = """
local found = redis.call('HMGET', KEYS[1], 'record', 'updated_at')
if found[1] then return found end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 'lost' end
return 'unknown'
"""

# A Redis without memory refuses a script only at its first write, and only one that adds: that must
# stand before all that removes.
PUT = f"""
local member, ttl, record, digest = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local max_streams = tonumber(ARGV[5])
{_NOW}
local is_new = redis.call('EXISTS', KEYS[1]) == 0
if is_new then
    local count = redis.call('ZCOUNT', KEYS[2], '(' .. string.format('%.0f', now - ttl), '+inf')
    local age = redis.call('ZSCORE', KEYS[2], member)
    if age and tonumber(age) > now - ttl then count = count - 1 end
    if count >= max_streams then return 'full' end
end
redis.call('ZADD', KEYS[3], 0, member)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - 2 * ttl)) do
    redis.call('ZREM', KEYS[2], old)
    redis.call('ZREM', KEYS[3], old)
end
redis.call('DEL', KEYS[1])
{_TOUCH}
return is_new and 'new' or 'again'
"""

APPEND = f"""
local member, ttl, record, digest = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local before, step, answer, max_answers = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
if redis.call('HGET', KEYS[1], 'digest') ~= before then return 'moved' end
{_NOW}
{_TOUCH}
redis.call('HSET', KEYS[1], 'answer:' .. step, answer)
local steps = {{}}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local kept = string.match(name, '^answer:(%d+)$')
    if kept then steps[#steps + 1] = tonumber(kept) end
end
table.sort(steps)
for place = 1, #steps - max_answers do
    redis.call('HDEL', KEYS[1], 'answer:' .. string.format('%.0f', steps[place]))
end
return 'done'
"""

DELETE = """
if redis.call('DEL', KEYS[1]) == 0 then
    if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 'lost' end
    return 'unknown'
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 'done'
"""
