#!lua
-- rebuild_open: write the account of a fenced item anew, after its buyers, and put it on sale.
--
-- KEYS[1]  fs:{<p>}:item:<item>  hash  the item's account (see preheat.lua)
--
-- ARGV[1]   token         of the fence (see fence.lua)
-- ARGV[2]   channel       fs:cleared
-- ARGV[3]   item          decimal id
-- ARGV[4]   stock         units, an integer >= 0
-- ARGV[5]   limit         units for each user, an integer >= 1
-- ARGV[6]   opens_at_ms   milliseconds since 1970
-- ARGV[7]   closes_at_ms  milliseconds since 1970, after opens_at_ms
-- ARGV[8]   gen           the new generation, 2 to 9,000,000
-- ARGV[9]   restock       number of the last restock that stock includes
-- ARGV[10]  state         'open' | 'paused'
--
-- Returns {status}
--   OPENED   the item answers from now on
--   FOREIGN  the fence is not, or no longer, of this token, or of another run of Redis: nothing was
--            changed
--
-- Side effects when OPENED: the whole account; fence is removed; the epoch starts at gen * 10^9
-- or above the one that is there; and one message "<item> <epoch>" on the channel, which clears
-- the sold-out flags of all nodes. Cost: O(1).

local OPENED, FOREIGN = 1, 2

local item_key = KEYS[1]
local token, channel, item, stock, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local opens_at_ms, closes_at_ms, gen = ARGV[6], ARGV[7], ARGV[8]
local restock, state = ARGV[9], ARGV[10]

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local fence = redis.call('HMGET', item_key, 'state', 'fence', 'epoch', 'run')
if fence[1] ~= 'rebuilding' or fence[2] ~= token or not run or fence[4] ~= run then
  return {FOREIGN}
end
local epoch = math.max(gen * 1000000000, (tonumber(fence[3]) or 0) + 1)
local epoch_text = string.format('%.0f', epoch)
redis.call('HSET', item_key, 'stock', stock, 'limit', limit, 'opens_at_ms', opens_at_ms,
  'closes_at_ms', closes_at_ms, 'epoch', epoch_text, 'gen', gen, 'seq', '0', 'restock', restock,
  'state', state)
redis.call('HDEL', item_key, 'fence')
redis.call('PUBLISH', channel, item .. ' ' .. epoch_text)
return {OPENED}
