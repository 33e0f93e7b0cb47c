#!lua
-- dead_retry: put one dead letter back into the stream it came from, in one step: as an entry of
-- one order, or as what it was if it could not be read.
--
-- KEYS[1]  fs:{<p>}:dead     stream  see dead_letter.lua
-- KEYS[2]  fs:{<p>}:orders   stream
-- KEYS[3]  fs:{<p>}:waiting  string  how many orders the stream holds
--
-- ARGV[1]  id  of the dead letter
--
-- Returns {status}
--   RETRIED  the order is in orders again, in an entry of its own, and no dead letter any more
--   GONE     no such dead letter: retried or dropped before; nothing was changed
--   FOREIGN  it was not written by dead_letter.lua; nothing was changed
--
-- Side effects when RETRIED: XADD to orders, its orders counted, XDEL on dead. Cost: O(fields).

local RETRIED, GONE, FOREIGN = 1, 2, 3
local LETTER = 4    -- fields before those of the entry: entry, reason with their values
local HEADER = 8    -- fields of an entry before its first order
local FIELDS = 4000 -- of a letter: unpack is bounded by Lua's stack

local dead_key, orders_key, waiting_key = KEYS[1], KEYS[2], KEYS[3]
local id = ARGV[1]

redis.call('XLEN', orders_key) -- refuses a key of another type before anything is written
local waiting = tonumber(redis.call('GET', waiting_key)) or 0
local found = redis.call('XRANGE', dead_key, id, id)
if #found == 0 then
  return {GONE}
end
local fields = found[1][2]
if fields[1] ~= 'entry' or fields[3] ~= 'reason' or #fields < LETTER + 2 then
  return {FOREIGN}
end
local orders = 0
if fields[5] == 'item' and fields[7] == 'gen' and fields[9] == 'seq' and fields[11] == 'at_ms' then
  orders = (#fields - LETTER - HEADER) / 2
end
redis.call('XADD', orders_key, '*', unpack(fields, LETTER + 1, math.min(#fields, FIELDS)))
redis.call('SET', waiting_key, string.format('%.0f', waiting + orders))
redis.call('XDEL', dead_key, id)
return {RETRIED}
