-- Begins a session of a user.
-- KEYS: 1 digest of the user's newest token; 2 index of the user's sessions; 3 the session.
-- ARGV: 1 session id; 2 digest of its token; 3 name of the device; 4 life of the token in ms.
-- Returns the session's end, in ms since 1970.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[4])

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ttl, ARGV[1])
-- The index lives as long as the session in it that lives longest, so that none is missed when all are revoked.
redis.call('PEXPIREAT', KEYS[2], redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2])
redis.call('HSET', KEYS[3], 'current', ARGV[2], 'device', ARGV[3], 'created_ms', now, 'rotated_ms', now)
redis.call('PEXPIREAT', KEYS[3], now + ttl)
redis.call('SET', KEYS[1], ARGV[2], 'PX', ttl)
return now + ttl
