#!lua flags=allow-oom
-- run: tell which run of Redis answers for a partition, and what its clock shows.
--
-- KEYS[1]  fs:{<p>}:orders  stream  only named, so that a cluster asks its owner
--
-- Returns {status, run, now_ms}
--   TOLD     always
--   run      run id of the Redis, '' where it has none
--   now_ms   its time, string
--
-- Side effects: none. Time: reads TIME once. Cost: O(1).

local TOLD = 1

local orders_key = KEYS[1]

redis.call('EXISTS', orders_key)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local time = redis.call('TIME')
return {TOLD, run or '', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
