#!lua flags=allow-oom
-- dead_letter: move one entry that can never be persisted to the dead stream, in one step.
--
-- KEYS[1]  fs:{<p>}:orders  stream  group as in ARGV[1]
-- KEYS[2]  fs:{<p>}:dead    stream  {entry, reason, then the fields of the entry}
--
-- ARGV[1]  group   consumer group
-- ARGV[2]  id      entry id
-- ARGV[3]  reason  text of ours, 1-1,000 bytes
--
-- Returns {status}
--   MOVED  the entry is in the dead stream, acknowledged and deleted
--   GONE   no such entry: moved before; acknowledged again, nothing else was changed
--
-- Side effects when MOVED: XADD to dead, XACK and XDEL on orders. Cost: O(fields).

local MOVED, GONE = 1, 2

local orders_key, dead_key = KEYS[1], KEYS[2]
local group, id, reason = ARGV[1], ARGV[2], ARGV[3]

local found = redis.call('XRANGE', orders_key, id, id)
if #found == 0 then
  redis.call('XACK', orders_key, group, id)
  return {GONE}
end
local fields = {'entry', id, 'reason', reason}
for _, text in ipairs(found[1][2]) do
  fields[#fields + 1] = text
end
redis.call('XADD', dead_key, '*', unpack(fields, 1, math.min(#fields, 1000)))
redis.call('XACK', orders_key, group, id)
redis.call('XDEL', orders_key, id)
return {MOVED}
