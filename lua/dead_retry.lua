#!lua
-- dead_retry: put one dead letter back into the stream it came from, in one step.
--
-- KEYS[1]  fs:{<p>}:dead    stream  {entry, reason, then the fields of the entry}
-- KEYS[2]  fs:{<p>}:orders  stream
--
-- ARGV[1]  id  of the dead letter
--
-- Returns {status}
--   RETRIED  the entry is in orders again, under a new id, and no dead letter any more
--   GONE     no such dead letter: retried or dropped before; nothing was changed
--   FOREIGN  it was not written by dead_letter.lua; nothing was changed
--
-- Side effects when RETRIED: XADD to orders, XDEL on dead. Cost: O(fields).

local RETRIED, GONE, FOREIGN = 1, 2, 3

local dead_key, orders_key = KEYS[1], KEYS[2]
local id = ARGV[1]

redis.call('XLEN', orders_key) -- refuses a key of another type before anything is written
local found = redis.call('XRANGE', dead_key, id, id)
if #found == 0 then
  return {GONE}
end
local fields = found[1][2]
if fields[1] ~= 'entry' or fields[3] ~= 'reason' or #fields < 6 then
  return {FOREIGN}
end
redis.call('XADD', orders_key, '*', unpack(fields, 5, math.min(#fields, 1000)))
redis.call('XDEL', dead_key, id)
return {RETRIED}
