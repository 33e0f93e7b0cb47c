#!lua
-- entry_an_order: the engine's reserve.lua as it was while each accepted order was a stream entry of
-- its own and a run decided one item. Decides a batch of requests for one item, in order, and writes
-- the accepted ones.
--
-- KEYS[1]  fs:{<p>}:item:<item>    hash    the item's account
-- KEYS[2]  fs:{<p>}:buyers:<item>  hash    user -> "order_no qty key[,order_no qty key...]"
-- KEYS[3]  fs:{<p>}:orders         stream  one entry an accepted order
--
-- ARGV[1]  item        decimal id, copied into the stream entries
-- ARGV[2]  stream_max  entries; at or above it the whole batch is answered overloaded
-- ARGV[3+] requests, four each (at most 1,000 requests):
--          order_no  decimal, fresh for every request, unused if it is not accepted
--          user      1-64 characters of [A-Za-z0-9_.@+-]
--          qty       units, an integer >= 1
--          key       idempotency key, 1-128 characters without space and comma, or ''
--
-- Returns {status, epoch, stock, now_ms, opens_at_ms, closes_at_ms, outcomes, order_nos}
--   status     DECIDED | NOT_READY | OVERLOADED; unless DECIDED, the rest is 0, '' and {}
--   epoch      of the item's stock (raised by every release and restock)
--   stock      units left after the batch
--   now_ms     Redis time of the decision, string
--   opens_at_ms, closes_at_ms  of the item, strings
--   outcomes   one letter a request, in order:
--              A accepted, R replayed, D duplicate_order, L limit_reached, S sold_out,
--              N not_started, E ended, P paused
--   order_nos  the order_no that the user holds, for each R, D and L, in order
--              ('' where an L holds none)
--
-- A replay is answered before the window is looked at: whoever was accepted learns it again
-- even after the close. Side effects for the A requests only, after every decision is made:
-- buyers gets the order, stock falls, sequence rises, and the stream gets one entry
-- {order, item, user, qty, gen, seq, at_ms[, key]}.
-- Time: reads TIME once. Cost: O(requests), one HMGET, one HSET a key, one XADD an order.

local DECIDED, NOT_READY, OVERLOADED = 1, 2, 3
local CHUNK = 1000 -- arguments a call: unpack is bounded by Lua's stack

local item_key, buyers_key, orders_key = KEYS[1], KEYS[2], KEYS[3]
local item, stream_max = ARGV[1], tonumber(ARGV[2])

local function refuse(status)
  return {status, 0, 0, '0', '0', '0', '', {}}
end

-- Read.
local account = redis.call('HMGET', item_key,
  'stock', 'limit', 'opens_at_ms', 'closes_at_ms', 'epoch', 'gen', 'seq', 'state')
local stock, limit = tonumber(account[1]), tonumber(account[2])
local opens_at_ms, closes_at_ms = tonumber(account[3]), tonumber(account[4])
local epoch, gen, seq, state = tonumber(account[5]), account[6], tonumber(account[7]), account[8]
if not (stock and limit and opens_at_ms and closes_at_ms and epoch and gen and seq)
    or (state ~= 'open' and state ~= 'paused') then
  return refuse(NOT_READY) -- missing, half-written or being rebuilt: never guessed
end
if redis.call('XLEN', orders_key) >= stream_max then
  return refuse(OVERLOADED)
end

local count = (#ARGV - 2) / 4
local users = {}
for i = 1, count do
  users[i] = ARGV[4 * i]
end
local held = {} -- user -> buyers entry, kept up to date within the batch
for first = 1, count, CHUNK do
  local last = math.min(first + CHUNK - 1, count)
  local entries = redis.call('HMGET', buyers_key, unpack(users, first, last))
  for i = first, last do
    held[users[i]] = entries[i - first + 1]
  end
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now_ms)

local closed -- the letter that answers everything but replays
if now_ms >= closes_at_ms then
  closed = 'E'
elseif state == 'paused' then
  closed = 'P'
elseif now_ms < opens_at_ms then
  closed = 'N'
end

-- Decide.
local outcomes, order_nos = {}, {}
local accepted = {} -- indexes of the accepted requests
local buyers = {}   -- users with a changed entry
local changed = {}
for i = 1, count do
  local base = 4 * i
  local user, qty, key = ARGV[base], tonumber(ARGV[base + 1]), ARGV[base + 2]
  local entry = held[user]
  local units, last_order, replay = 0, '', nil
  if entry then
    for order_no, order_qty, order_key in string.gmatch(entry, '(%d+) (%d+) ([^,]*)') do
      units, last_order = units + order_qty, order_no
      if key ~= '' and key == order_key then
        replay = order_no
      end
    end
  end

  if replay then
    outcomes[i] = 'R'
    order_nos[#order_nos + 1] = replay
  elseif closed then
    outcomes[i] = closed
  elseif units > 0 and limit == 1 then
    outcomes[i] = 'D'
    order_nos[#order_nos + 1] = last_order
  elseif units + qty > limit or (entry and units == 0) then -- an unreadable entry sells nothing
    outcomes[i] = 'L'
    order_nos[#order_nos + 1] = last_order
  elseif stock < qty then
    outcomes[i] = 'S'
  else
    outcomes[i] = 'A'
    stock = stock - qty
    accepted[#accepted + 1] = i
    local line = ARGV[base - 1] .. ' ' .. ARGV[base + 1] .. ' ' .. key
    held[user] = entry and (entry .. ',' .. line) or line
    if not changed[user] then
      changed[user] = true
      buyers[#buyers + 1] = user
    end
  end
end

-- Write.
if #accepted > 0 then
  -- The stream first: XADD alone can still fail (at the last possible id), and it does so
  -- before anything is written.
  for _, i in ipairs(accepted) do
    local base = 4 * i
    seq = seq + 1 -- redis.call writes a whole number below 2^53 in full
    if ARGV[base + 2] == '' then
      redis.call('XADD', orders_key, '*', 'order', ARGV[base - 1], 'item', item,
        'user', ARGV[base], 'qty', ARGV[base + 1], 'gen', gen, 'seq', seq, 'at_ms', now_text)
    else
      redis.call('XADD', orders_key, '*', 'order', ARGV[base - 1], 'item', item,
        'user', ARGV[base], 'qty', ARGV[base + 1], 'gen', gen, 'seq', seq, 'at_ms', now_text,
        'key', ARGV[base + 2])
    end
  end
  local fields = {}
  for _, user in ipairs(buyers) do
    fields[#fields + 1] = user
    fields[#fields + 1] = held[user]
    if #fields >= CHUNK then
      redis.call('HSET', buyers_key, unpack(fields))
      fields = {}
    end
  end
  if #fields > 0 then
    redis.call('HSET', buyers_key, unpack(fields))
  end
  redis.call('HSET', item_key,
    'stock', string.format('%.0f', stock), 'seq', string.format('%.0f', seq))
end

return {DECIDED, epoch, stock, now_text, account[3], account[4], table.concat(outcomes), order_nos}
