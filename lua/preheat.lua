#!lua
-- preheat: load an item into Redis before its sale. Never overwrites one that is there.
--
-- KEYS[1]  fs:{<p>}:item:<item>    hash    the item's account, see fields below
-- KEYS[2]  fs:{<p>}:buyers:<item>  hash    must not exist
--
-- ARGV[1]  stock         units, an integer >= 0
-- ARGV[2]  limit         units for each user, an integer >= 1
-- ARGV[3]  opens_at_ms   milliseconds since 1970
-- ARGV[4]  closes_at_ms  milliseconds since 1970, after opens_at_ms
-- ARGV[5]  gen           generation that the ledger gave this load, 1 to 9,000,000
-- ARGV[6]  state         'open' | 'paused'
--
-- Returns {status}
--   LOADED   the item answers from now on
--   EXISTS   an account or a buyer is there already; nothing was changed
--
-- Side effects when LOADED: writes the hash {stock, limit, opens_at_ms, closes_at_ms, epoch,
-- gen, seq=0, restock=0, state, run}. run is the run id of this Redis: what it holds is vouched for
-- until it restarts or fails over, and no script sells or gives back in another run. The epoch starts at gen * 10^9, above every epoch of the
-- generations before, so that a sold-out flag from before a loss is known to be old.
-- Cost: O(1).

local LOADED, EXISTS = 1, 2

local item_key, buyers_key = KEYS[1], KEYS[2]
local stock, limit, opens_at_ms, closes_at_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local gen, state = ARGV[5], ARGV[6]

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if redis.call('EXISTS', item_key, buyers_key) > 0 then
  return {EXISTS}
end

redis.call('HSET', item_key,
  'stock', stock, 'limit', limit, 'opens_at_ms', opens_at_ms, 'closes_at_ms', closes_at_ms,
  'epoch', string.format('%.0f', gen * 1000000000), 'gen', gen, 'seq', '0', 'restock', '0', 'state', state,
  'run', run or '')
return {LOADED}
