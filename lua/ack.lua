#!lua flags=allow-oom
-- ack: take entries whose orders are all settled off the stream, for good, in one step. An entry
-- that is acknowledged but not deleted would be read by nobody and stay for ever.
--
-- KEYS[1]  fs:{<p>}:orders   stream  group as in ARGV[1]
-- KEYS[2]  fs:{<p>}:waiting  string  how many orders the stream holds
--
-- ARGV[1]  group   consumer group
-- ARGV[2]  run     '1' when one XREADGROUP with '>' delivered the ids, ascending, and nothing in
--                  between that is still in the stream; '0' for any other ids
-- ARGV[3]  orders  how many orders the entries hold together
-- ARGV[4+] ids     entry ids (at least 1, at most 5,000)
--
-- Returns {status, acked, deleted}
--   ACKED    acked and deleted count the entries that were still there
--
-- Side effects: XACK, the entries deleted, their orders counted down. Of entries that others have
-- acknowledged in part only a share is counted down; when the stream is empty the count is 0
-- whatever it was. Idempotent. Runs even at maxmemory: draining must always work. Cost: O(ids).
-- XDEL walks a node of the stream from its start for each id, ten times the cost of all the rest;
-- so a run at the head of the stream is trimmed, which drops whole nodes. Such a trim reaches
-- nothing but the run: no entry is older than its first, and between its first and its last there
-- is no other.

local ACKED = 1
local IDS = 4      -- where the ids start
local CHUNK = 1000 -- arguments a call: unpack is bounded by Lua's stack

local orders_key, waiting_key = KEYS[1], KEYS[2]
local group, run, orders = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first_id, last_id = ARGV[IDS], ARGV[#ARGV]

local waiting = tonumber(redis.call('GET', waiting_key)) or 0
local oldest = redis.call('XRANGE', orders_key, '-', '+', 'COUNT', 1)[1]
local trim = run == '1' and oldest and oldest[1] == first_id

local acked, deleted = 0, 0
for first = IDS, #ARGV, CHUNK do
  local last = math.min(first + CHUNK - 1, #ARGV)
  acked = acked + redis.call('XACK', orders_key, group, unpack(ARGV, first, last))
  if not trim then
    deleted = deleted + redis.call('XDEL', orders_key, unpack(ARGV, first, last))
  end
end
if trim then
  deleted = redis.call('XTRIM', orders_key, 'MINID', last_id) -- all before the last
  deleted = deleted + redis.call('XDEL', orders_key, last_id)
end
waiting = math.max(0, waiting - math.floor(orders * acked / (#ARGV - IDS + 1)))
if redis.call('XLEN', orders_key) == 0 then
  waiting = 0
end
redis.call('SET', waiting_key, string.format('%.0f', waiting))
return {ACKED, acked, deleted}
