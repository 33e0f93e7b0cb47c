#!lua
-- rebuild_buyers: write some of the buyers of a fenced item anew.
--
-- KEYS[1]  fs:{<p>}:item:<item>    hash  the item's account (see preheat.lua)
-- KEYS[2]  fs:{<p>}:buyers:<item>  hash  user -> "order_no qty key[,order_no qty key...]";
--                                    a negative qty is an order that is over
--
-- ARGV[1]  token  of the fence (see fence.lua)
-- ARGV[2]  fresh  '1' forgets all buyers first: the first call of a rebuild; else '0'
-- ARGV[3+] buyers, two each (at most 1,000 users): user, entry
--
-- Returns {status}
--   WRITTEN  the buyers are there
--   FOREIGN  the fence is not, or no longer, of this token, or of another run of Redis: nothing was
--            changed
--
-- Side effects when WRITTEN: buyers. Cost: O(buyers); those forgotten are freed in the background.

local WRITTEN, FOREIGN = 1, 2
local CHUNK = 1000 -- arguments a call: unpack is bounded by Lua's stack

local item_key, buyers_key = KEYS[1], KEYS[2]
local token, fresh = ARGV[1], ARGV[2]

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local fence = redis.call('HMGET', item_key, 'state', 'fence', 'run')
if fence[1] ~= 'rebuilding' or fence[2] ~= token or not run or fence[3] ~= run then
  return {FOREIGN}
end
if fresh == '1' then
  redis.call('UNLINK', buyers_key)
end
for first = 3, #ARGV, CHUNK do
  redis.call('HSET', buyers_key, unpack(ARGV, first, math.min(first + CHUNK - 1, #ARGV)))
end
return {WRITTEN}
