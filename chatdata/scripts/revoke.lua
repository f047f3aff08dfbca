-- Ends one session of a user, or all of them. The sessions' keys are made from the index: not for Redis Cluster.
-- KEYS: 1 digest of the user's newest token; 2 index of the user's sessions; 3 a session's key without its id.
-- ARGV: 1 session id, or nothing for all.
-- Returns how many sessions were ended.
local ids = ARGV
if #ids == 0 then
  ids = redis.call('ZRANGE', KEYS[2], 0, -1)
  redis.call('DEL', KEYS[1])
end

local newest = redis.call('GET', KEYS[1])
local ended = 0
for _, id in ipairs(ids) do
  local current = redis.call('HMGET', KEYS[3] .. id, 'current')[1]
  if current and current == newest then
    redis.call('DEL', KEYS[1])
  end
  ended = ended + redis.call('DEL', KEYS[3] .. id)
  redis.call('ZREM', KEYS[2], id)
end
return ended
