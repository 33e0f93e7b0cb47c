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
-- Returns {status, epoch, stock, released, unknown}
--   status    RELEASED | NOT_READY (no account, being rebuilt, or not vouched for: nothing was done,
--             ask again)
--   epoch     of the item after the call, stock likewise
--   released  orders that still held their units and gave them back now; the others had done so
--             before, or are unknown
--   unknown   orders that their users neither hold nor have held: buyers has lost something
--
-- An order that is over stays among the buyers with its qty negative, so that its idempotency key
-- names it still and its user's releases are counted: what makes this idempotent is the sign, which
-- changes in the run that raises the stock. Side effects when released > 0: buyers, stock, epoch + 1,
-- and one message "<item> <epoch>" on the channel, which clears the sold-out flags of all nodes.
-- Runs even at maxmemory: giving back must always work. Cost: O(orders), one INFO.

local RELEASED, NOT_READY = 1, 2

local item_key, buyers_key = KEYS[1], KEYS[2]
local channel, item = ARGV[1], ARGV[2]

-- Read.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local account = redis.call('HMGET', item_key, 'stock', 'epoch', 'state', 'run')
local stock, epoch, state = tonumber(account[1]), tonumber(account[2]), account[3]
if not (stock and epoch) or (state ~= 'open' and state ~= 'paused') or not run or account[4] ~= run then
  return {NOT_READY, 0, 0, 0, 0}
end

-- Decide.
local entries, changed = {}, {} -- user -> buyers entry, kept up to date; those that changed
local released, unknown = 0, 0
for i = 3, #ARGV, 2 do
  local order_no, user = ARGV[i], ARGV[i + 1]
  local entry = entries[user] or redis.call('HGET', buyers_key, user) or ''
  local lines, found = {}, false
  for line in string.gmatch(entry, '[^,]+') do
    local line_no, qty, key = string.match(line, '^(%d+) (%-?%d+) (.*)$')
    if line_no == order_no then
      found = true
      if tonumber(qty) > 0 then
        stock, released = stock + qty, released + 1
        line = line_no .. ' -' .. qty .. ' ' .. key
        changed[user] = true
      end
    end
    lines[#lines + 1] = line
  end
  entries[user] = table.concat(lines, ',')
  if not found then
    unknown = unknown + 1
  end
end
if released == 0 then
  return {RELEASED, epoch, stock, 0, unknown}
end

-- Write.
for user in pairs(changed) do
  redis.call('HSET', buyers_key, user, entries[user])
end
epoch = epoch + 1
local epoch_text = string.format('%.0f', epoch)
redis.call('HSET', item_key, 'stock', string.format('%.0f', stock), 'epoch', epoch_text)
redis.call('PUBLISH', channel, item .. ' ' .. epoch_text)
return {RELEASED, epoch, stock, released, unknown}
