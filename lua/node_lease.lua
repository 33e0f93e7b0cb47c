#!lua flags=allow-oom
-- node_lease: renew or end the lease of a node id, by its owner only.
--
-- KEYS[1]  fs:node:<id>  string  owner token, with TTL
--
-- ARGV[1]  owner   token of the process that took the lease
-- ARGV[2]  ttl_ms  new time to live, milliseconds; 0 ends the lease
--
-- Returns {status}
--   HELD  renewed, or ended by its owner
--   LOST  another owner or none; nothing was changed
--
-- Side effects when HELD: PEXPIRE or DEL. Cost: O(1).

local HELD, LOST = 1, 2

local node_key = KEYS[1]
local owner, ttl_ms = ARGV[1], ARGV[2]

if redis.call('GET', node_key) ~= owner then
  return {LOST}
end
if tonumber(ttl_ms) > 0 then
  redis.call('PEXPIRE', node_key, ttl_ms)
else
  redis.call('DEL', node_key)
end
return {HELD}
