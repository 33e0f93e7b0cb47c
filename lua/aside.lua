#!lua flags=allow-oom
-- aside: move a key of ours out of the way that holds something of another type, which nothing of
-- ours can have written and every script refuses.
--
-- KEYS[1]  fs:{<p>}:...        any    the key
-- KEYS[2]  fs:{<p>}:aside:...  any    where it is moved; must not exist
--
-- ARGV[1]  type  that the key should have, as TYPE names it
--
-- Returns {status}
--   MOVED  it had another type, and is now under the other name
--   RIGHT  it is of that type, or is not there, or the other name is taken: nothing was changed
--
-- Side effects when MOVED: RENAME. Cost: O(1).

local MOVED, RIGHT = 1, 2

local key, target = KEYS[1], KEYS[2]
local wanted = ARGV[1]

local found = redis.call('TYPE', key).ok
if found == wanted or found == 'none' or redis.call('EXISTS', target) == 1 then
  return {RIGHT}
end
redis.call('RENAME', key, target)
return {MOVED}
