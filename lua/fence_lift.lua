#!lua flags=allow-oom
-- fence_lift: put an item that was found intact back on sale as it is.
--
-- KEYS[1]  fs:{<p>}:item:<item>  hash  the item's account (see preheat.lua)
--
-- ARGV[1]  token  of the fence (see fence.lua)
-- ARGV[2]  state  'open' | 'paused'
--
-- Returns {status}
--   LIFTED   the item answers from now on
--   FOREIGN  the fence is not, or no longer, of this token, or of another run of Redis: nothing was
--            changed
--
-- Side effects when LIFTED: state; fence is removed. Cost: O(1).

local LIFTED, FOREIGN = 1, 2

local item_key = KEYS[1]
local token, state = ARGV[1], ARGV[2]

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local fence = redis.call('HMGET', item_key, 'state', 'fence', 'run')
if fence[1] ~= 'rebuilding' or fence[2] ~= token or not run or fence[3] ~= run then
  return {FOREIGN}
end
redis.call('HSET', item_key, 'state', state)
redis.call('HDEL', item_key, 'fence')
return {LIFTED}
