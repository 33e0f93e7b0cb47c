#!lua
-- remove: take an item that nobody has bought from out of Redis.
--
-- KEYS[1]  fs:{<p>}:item:<item>    hash    the item's account
-- KEYS[2]  fs:{<p>}:buyers:<item>  hash    must not exist
--
-- Returns {status}
--   REMOVED  the item answers "not ready" from now on
--   ABSENT   it is not loaded; nothing was changed
--   BOUGHT   an order was accepted in this generation, or somebody holds units; nothing was changed
--
-- Side effects when REMOVED: deletes the item's account. Sold-out flags of nodes run out by
-- themselves.
-- Cost: O(1).

local REMOVED, ABSENT, BOUGHT = 1, 2, 3

local item_key, buyers_key = KEYS[1], KEYS[2]

local seq = redis.call('HGET', item_key, 'seq')
if redis.call('EXISTS', buyers_key) == 1 or (seq and seq ~= '0') then
  return {BOUGHT}
end
if redis.call('DEL', item_key) == 0 then
  return {ABSENT}
end
return {REMOVED}
