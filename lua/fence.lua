#!lua flags=allow-oom
-- fence: take an item off sale so that it can be compared with the ledger and rebuilt.
--
-- KEYS[1]  fs:{<p>}:item:<item>  hash    the item's account (see preheat.lua)
-- KEYS[2]  fs:{<p>}:orders       stream
--
-- ARGV[1]  token  of this rebuild, 1-64 characters of [A-Za-z0-9]
--
-- Returns {status, last_id}
--   FENCED   reserve, release and restock answer NOT_READY from now on
--   last_id  of the stream: no entry of the item is or will be above it while the fence stands
--
-- Side effects: state = 'rebuilding', fence = token, run = that of this Redis, and zeros for the fields that the account
-- lacks, so that an item that is not there is not preheated meanwhile. A fence of another token
-- is taken over: its owner notices, since every later step asks for the token.
-- Cost: O(groups and consumers of the stream).

local FENCED = 1

local item_key, orders_key = KEYS[1], KEYS[2]
local token = ARGV[1]

local names = {'stock', 'limit', 'opens_at_ms', 'closes_at_ms', 'epoch', 'gen', 'seq', 'restock'}
local account = redis.call('HMGET', item_key, unpack(names))
local last_id = '0-0'
if redis.call('EXISTS', orders_key) == 1 then
  local info = redis.call('XINFO', 'STREAM', orders_key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last_id = info[i + 1]
    end
  end
end

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local fields = {'state', 'rebuilding', 'fence', token, 'run', run or ''}
for i, name in ipairs(names) do
  if not account[i] then
    fields[#fields + 1] = name
    fields[#fields + 1] = '0'
  end
end
redis.call('HSET', item_key, unpack(fields))
return {FENCED, last_id}
