#!lua flags=allow-oom
-- set_state: pause or resume an item.
--
-- KEYS[1]  fs:{<p>}:item:<item>  hash  the item's account (see preheat.lua)
--
-- ARGV[1]  state  'open' | 'paused'
--
-- Returns {status}
--   SET        the item has the state now, whether it had it before or not
--   NOT_READY  no account, or being rebuilt; nothing was changed
--
-- Side effects when SET: state. Cost: O(1).

local SET, NOT_READY = 1, 2

local item_key = KEYS[1]
local state = ARGV[1]

local current = redis.call('HGET', item_key, 'state')
if current ~= 'open' and current ~= 'paused' then
  return {NOT_READY}
end
redis.call('HSET', item_key, 'state', state)
return {SET}
