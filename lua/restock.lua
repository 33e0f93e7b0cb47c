#!lua flags=allow-oom
-- restock: add units to an item, once for each restock number.
--
-- KEYS[1]  fs:{<p>}:item:<item>  hash  the item's account (see preheat.lua)
--
-- ARGV[1]  channel  fs:cleared
-- ARGV[2]  item     decimal id
-- ARGV[3]  number   of this restock; numbers of one item ascend, at most 2^53
-- ARGV[4]  add      units, an integer >= 1
--
-- Returns {status, epoch, stock}
--   RESTOCKED  the units are on sale
--   REPEATED   this number, or a later one, was carried out before; nothing was changed
--   NOT_READY  no account, being rebuilt, or not vouched for; nothing was changed, ask again
--
-- Side effects when RESTOCKED: stock, epoch + 1, restock = number, and one message
-- "<item> <epoch>" on the channel. Cost: O(1).

local RESTOCKED, REPEATED, NOT_READY = 1, 2, 3

local item_key = KEYS[1]
local channel, item, number, add = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local account = redis.call('HMGET', item_key, 'stock', 'epoch', 'restock', 'state', 'run')
local stock, epoch, last = tonumber(account[1]), tonumber(account[2]), tonumber(account[3])
local state = account[4]
if not (stock and epoch and last) or (state ~= 'open' and state ~= 'paused')
    or not run or account[5] ~= run then
  return {NOT_READY, 0, 0}
end
if tonumber(number) <= last then
  return {REPEATED, epoch, stock}
end

stock, epoch = stock + add, epoch + 1
local epoch_text = string.format('%.0f', epoch)
redis.call('HSET', item_key, 'stock', string.format('%.0f', stock), 'epoch', epoch_text,
  'restock', number)
redis.call('PUBLISH', channel, item .. ' ' .. epoch_text)
return {RESTOCKED, epoch, stock}
