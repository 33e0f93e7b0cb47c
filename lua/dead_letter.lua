#!lua flags=allow-oom
-- dead_letter: take one entry off the stream, all of whose orders are settled but those that can
-- never be persisted, and move these to the dead stream, in one step.
--
-- KEYS[1]  fs:{<p>}:orders   stream  group as in ARGV[1]
-- KEYS[2]  fs:{<p>}:waiting  string  how many orders the stream holds
-- KEYS[3]  fs:{<p>}:dead     stream  an order an entry: {entry, reason, item, gen, seq, at_ms, then
--                                    the user with his "order_no qty key"}, or {entry, reason, then
--                                    all the fields} of an entry that cannot be read
--
-- ARGV[1]  group   consumer group
-- ARGV[2]  id      entry id
-- ARGV[3]  orders  how many orders the entry holds, 0 when it cannot be read
-- ARGV[4+] dead orders, two each: place (of the order in the entry, from 0; '' for the whole
--          entry), reason (text of ours, 1-1,000 bytes)
--
-- Returns {status}
--   MOVED  the orders are in the dead stream, the entry is acknowledged and deleted
--   GONE   no such entry: settled before; acknowledged again, nothing else was changed
--
-- Side effects when MOVED: XADD to dead, XACK and XDEL on orders, the orders counted down.
-- Runs even at maxmemory: draining must always work. Cost: O(fields).

local MOVED, GONE = 1, 2
local HEADER = 8     -- fields before the first order: item, gen, seq, at_ms with their values
local FIELDS = 4000  -- of a letter: unpack is bounded by Lua's stack

local orders_key, waiting_key, dead_key = KEYS[1], KEYS[2], KEYS[3]
local group, id, orders = ARGV[1], ARGV[2], tonumber(ARGV[3])

redis.call('XLEN', dead_key) -- refuses a key of another type before anything is written
local waiting = tonumber(redis.call('GET', waiting_key)) or 0
local found = redis.call('XRANGE', orders_key, id, id)
if #found == 0 then
  redis.call('XACK', orders_key, group, id)
  return {GONE}
end
local fields = found[1][2]

local letters = {}
for i = 4, #ARGV, 2 do
  local place, letter = tonumber(ARGV[i]), {'entry', id, 'reason', ARGV[i + 1]}
  local order = place and HEADER + 2 * place
  if order and fields[order + 2] then
    local own = {'item', fields[2], 'gen', fields[4],
      'seq', string.format('%.0f', fields[6] + place), 'at_ms', fields[8],
      fields[order + 1], fields[order + 2]}
    for _, text in ipairs(own) do
      letter[#letter + 1] = text
    end
  else
    for n = 1, math.min(#fields, FIELDS - #letter) do
      letter[#letter + 1] = fields[n]
    end
  end
  letters[#letters + 1] = letter
end

for _, letter in ipairs(letters) do
  redis.call('XADD', dead_key, '*', unpack(letter))
end
redis.call('XACK', orders_key, group, id)
redis.call('XDEL', orders_key, id)
waiting = math.max(0, waiting - orders)
if redis.call('XLEN', orders_key) == 0 then
  waiting = 0
end
redis.call('SET', waiting_key, string.format('%.0f', waiting))
return {MOVED}
