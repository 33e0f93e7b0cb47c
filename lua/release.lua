#!lua flags=allow-oom
-- release: give the units of orders of one item back, each order once, however often asked.
--
-- KEYS[1]  fs:{<p>}:item:<item>    hash  the item's account (see preheat.lua)
-- KEYS[2]  fs:{<p>}:buyers:<item>  hash  user -> "order_no qty key[,order_no qty key...]"
--
-- ARGV[1]  channel  fs:cleared
-- ARGV[2]  item     decimal id
-- ARGV[3+] orders, two each (at most 1,000 orders): order_no, user
--
-- Returns {status, epoch, stock, released}
--   status    RELEASED | NOT_READY (no account, or being rebuilt: nothing was done, ask again)
--   epoch     of the item after the call, stock likewise
--   released  orders that still held their units and gave them back now; the others had
--             done so before
--
-- The order's place in buyers is what makes it idempotent: it is removed in the run that
-- raises the stock. Side effects when released > 0: buyers, stock, epoch + 1, and one
-- message "<item> <epoch>" on the channel, which clears the sold-out flags of all nodes.
-- Runs even at maxmemory: giving back must always work. Cost: O(orders).

local RELEASED, NOT_READY = 1, 2

local item_key, buyers_key = KEYS[1], KEYS[2]
local channel, item = ARGV[1], ARGV[2]

-- Read.
local account = redis.call('HMGET', item_key, 'stock', 'epoch', 'state')
local stock, epoch, state = tonumber(account[1]), tonumber(account[2]), account[3]
if not (stock and epoch) or (state ~= 'open' and state ~= 'paused') then
  return {NOT_READY, 0, 0, 0}
end

-- Decide.
local entries = {} -- user -> what is left of a buyers entry that changes
local released = 0
for i = 3, #ARGV, 2 do
  local order_no, user = ARGV[i], ARGV[i + 1]
  local entry = entries[user] or redis.call('HGET', buyers_key, user)
  if entry then
    local kept, before = {}, released
    for line in string.gmatch(entry, '[^,]+') do
      local line_no, qty = string.match(line, '^(%d+) (%d+) ')
      if line_no == order_no then
        stock, released = stock + qty, released + 1
      else
        kept[#kept + 1] = line
      end
    end
    if released > before then
      entries[user] = table.concat(kept, ',')
    end
  end
end
if released == 0 then
  return {RELEASED, epoch, stock, 0}
end

-- Write.
for user, entry in pairs(entries) do
  if entry == '' then
    redis.call('HDEL', buyers_key, user)
  else
    redis.call('HSET', buyers_key, user, entry)
  end
end
epoch = epoch + 1
local epoch_text = string.format('%.0f', epoch)
redis.call('HSET', item_key, 'stock', string.format('%.0f', stock), 'epoch', epoch_text)
redis.call('PUBLISH', channel, item .. ' ' .. epoch_text)
return {RELEASED, epoch, stock, released}
