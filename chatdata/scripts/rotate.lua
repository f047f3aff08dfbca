-- Takes a session's token for its successor, once; a token that comes too late ends the session.
-- KEYS: 1 digest of the user's newest token; 2 index of the user's sessions; 3 the session.
-- ARGV: 1 session id; 2 digest of the presented token; 3 life of the successor in ms; 4 grace in ms, for which the
--   token before the current one gets the current one again; 5... digests of the successor, one for each server key.
-- Returns the place of the successor that holds now (1 is ARGV 5); 0 where there is no such session, or no key of
--   ours made its token; -1 where the token had been used before: the session is revoked.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[3])
local session = redis.call('HMGET', KEYS[3], 'current', 'previous', 'rotated_ms')
local current, previous, rotated = session[1], session[2], session[3]

if not current then
  return 0
end

if ARGV[2] == current then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZADD', KEYS[2], now + ttl, ARGV[1])
  redis.call('PEXPIREAT', KEYS[2], redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2])
  redis.call('HSET', KEYS[3], 'current', ARGV[5], 'previous', current, 'rotated_ms', now)
  redis.call('PEXPIREAT', KEYS[3], now + ttl)
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ttl)
  return 1
end

if ARGV[2] == previous and now - rotated < tonumber(ARGV[4]) then
  for place = 5, #ARGV do
    if ARGV[place] == current then
      return place - 4
    end
  end
  return 0
end

redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[1]) == current then
  redis.call('DEL', KEYS[1])
end
return -1
