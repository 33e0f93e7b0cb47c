#!lua
-- reserve: decide a run of requests for items of one partition, item after item, each item's in
-- order, and write the accepted ones.
--
-- KEYS[1]   fs:{<p>}:orders   stream  one entry a run and item
-- KEYS[2]   fs:{<p>}:waiting  string  orders in the stream that are not acknowledged
-- KEYS[3+]  items, two each (at most 64 items):
--           fs:{<p>}:item:<item>    hash  the item's account (see preheat.lua)
--           fs:{<p>}:buyers:<item>  hash  user -> "order_no qty key[,order_no qty key...]"; a
--                                         negative qty is an order that is over (see release.lua)
--
-- ARGV[1]   stream_max  orders; at or above it the whole run is answered OVERLOADED
-- ARGV[2]   channel     fs:cleared
-- ARGV[3+]  for each item, in the order of KEYS: item, a decimal id; count, its requests, at
--           least 1; then the requests, two arguments each (at most 1,000 in all):
--           user   1-64 characters of [A-Za-z0-9_.@+-]
--           order  "order_no qty key": order_no decimal, fresh for every request, unused if it is
--                  not accepted; qty units, an integer >= 1; key the idempotency key, 1-128
--                  characters without space and comma, or nothing
--
-- Returns {status, now_ms, decisions}
--   status     DECIDED | OVERLOADED (then now_ms is '0' and decisions empty)
--   now_ms     Redis time of the decision, string
--   decisions  one array an item: {status, epoch, stock, opens_at_ms, closes_at_ms, gen,
--              seq, outcomes, order_nos}
--     status     DECIDED | NOT_READY (no account, one that is not readable, being rebuilt, or not
--                vouched for in this run of Redis; the rest is 0, '' and {})
--     epoch      of the item's stock (raised by every release and restock)
--     stock      units left after the run
--     opens_at_ms, closes_at_ms  of the item, strings
--     gen        generation of the item
--     seq        orders accepted in the generation, after the run
--     outcomes   one letter a request, in order:
--                A accepted, R replayed, D duplicate_order, L limit_reached, S sold_out,
--                N not_started, E ended, P paused, K key_reused,
--                O overloaded (the run's users hold more than it may read: ask again)
--     order_nos  the order_no that the user holds, for each R, D, L and K, in order
--                ('' where an L holds none)
--
-- What a user holds is answered before the window is looked at: a replay by its key, and while
-- the item is closed whatever he holds. Side effects for the A requests only, after every decision
-- is made: buyers gets the order, stock falls, sequence and waiting rise, and the stream gets one
-- entry an item {item, gen, seq (of its first order), at_ms, then a pair an order: user, order}.
-- Where units have come back before, one message "<item> <epoch> <gen> <seq> <user>..." on
-- the channel tells who took them, and the sequence before them. Time: reads TIME once.
-- Cost: O(requests), one INFO a run, three commands an item. What the users hold is read once a
-- run, and of entries longer than SHORT bytes no more than READ_MAX bytes in all, which costs a
-- command a user where the limit lets entries grow long: below 5 ms.

local DECIDED, NOT_READY, OVERLOADED = 1, 2, 3
local ORDERS_MAX = 50  -- live orders of an item that a user may hold: what a run may have to read of him
local RELEASES_MAX = 5 -- orders of an item that a user may give back and buy again
local TRICKLE = 1000   -- units left, up to which it is told who took those that came back
local FEW = 5          -- the limit up to which no entry is long
local SHORT = 200      -- bytes of a user's entry that are always read: a few orders
local READ_MAX = 50000 -- bytes beyond these that a run reads; whoever comes after that is answered O

local find, match, sub, format, concat = string.find, string.match, string.sub, string.format, table.concat
local orders_key, waiting_key = KEYS[1], KEYS[2]
local stream_max, channel = tonumber(ARGV[1]), ARGV[2]

-- Read.
local entries = redis.call('XLEN', orders_key)
local waiting = entries > 0 and tonumber(redis.call('GET', waiting_key)) or entries
if waiting >= stream_max then
  return {OVERLOADED, '0', {}}
end
local run = match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = format('%d', now_ms)

local NOTHING = {units = 0, orders = 0, over = 0, last = '', lines = ''}

-- parse adds up what a user holds. lines is his entry with a comma behind every order.
local function parse(entry)
  local holds = {units = 0, orders = 0, over = 0, last = '', lines = entry .. ','}
  local lines, start = holds.lines, 1
  while true do -- by plain searches: an idempotency key may be long
    local space = find(lines, ' ', start, true)
    local stop = space and find(lines, ' ', space + 1, true)
    local units = stop and tonumber(sub(lines, space + 1, stop - 1))
    if not units then
      return holds
    end
    if units > 0 then
      holds.units, holds.orders = holds.units + units, holds.orders + 1
      holds.last = sub(lines, start, space - 1)
    else
      holds.over = holds.over + 1
    end
    start = find(lines, ',', stop, true) + 1
  end
end

-- named returns the order that a key names among those a user holds or has held, and its quantity.
local function named(holds, key)
  local at = find(holds.lines, ' ' .. key .. ',', 1, true)
  if at then
    return match(sub(holds.lines, math.max(1, at - 40), at - 1), '(%d+) %-?(%d+)$')
  end
end

local NOTHING_DECIDED = {NOT_READY, 0, 0, '0', '0', 0, 0, '', {}}
local unread = READ_MAX

-- readable reports whether what a user holds is not too much to read in this run.
local function readable(buyers_key, user)
  local size = tonumber(redis.pcall('HSTRLEN', buyers_key, user)) or 0
  if size <= SHORT then
    return true
  end
  unread = unread - size
  return unread >= 0
end

-- decide decides the requests ARGV[first] to ARGV[last] of an item. It returns the decision, and
-- where there is something to write, that too. It is the script's innermost loop: counters
-- instead of #, locals instead of globals, and no table where ARGV itself will do.
local function decide(item_key, buyers_key, first, last)
  local account = redis.pcall('HMGET', item_key, 'stock', 'limit', 'opens_at_ms', 'closes_at_ms',
    'epoch', 'gen', 'seq', 'state', 'run')
  local stock, limit = tonumber(account[1]), tonumber(account[2])
  local opens_at_ms, closes_at_ms = tonumber(account[3]), tonumber(account[4])
  local epoch, gen, seq, state = tonumber(account[5]), tonumber(account[6]), tonumber(account[7]), account[8]
  if not run or account[9] ~= run
      or not (stock and limit and opens_at_ms and closes_at_ms and epoch and gen and seq)
      or (state ~= 'open' and state ~= 'paused') then
    -- Missing, half-written, of another type, being rebuilt, or not vouched for: never guessed, and
    -- no matter of the other items.
    return NOTHING_DECIDED
  end
  -- What each request's user holds. Where entries may be long each user is read once, and place
  -- tells where; false: not read. Where they are short a user who asks twice is read twice.
  local users, place = {}, limit > FEW and {}
  local n = 0
  for i = first, last, 2 do
    local user = ARGV[i]
    if not place then
      n = n + 1
      users[n] = user
    elseif place[user] == nil then
      place[user] = readable(buyers_key, user) and n + 1
      if place[user] then
        n = n + 1
        users[n] = user
      end
    end
  end
  local before = n > 0 and redis.pcall('HMGET', buyers_key, unpack(users)) or {}
  if before.err then -- of another type
    return NOTHING_DECIDED
  end

  local closed -- the letter for whoever holds nothing
  if now_ms >= closes_at_ms then
    closed = 'E'
  elseif state == 'paused' then
    closed = 'P'
  elseif now_ms < opens_at_ms then
    closed = 'N'
  end

  local outcomes, order_nos = {}, {}
  local requests, numbers, count = 0, 0, 0
  local accepted -- user, order, ...; nil while nobody was refused: then they are the arguments
  local joined   -- of who held something, user -> all of it
  local held = {} -- user -> what he holds, or the text of it while nobody asks
  for i = first, last, 2 do
    requests = requests + 1
    local user, order = ARGV[i], ARGV[i + 1]
    local holds = held[user]
    if not holds then
      if place then
        holds = place[user] and before[place[user]] or NOTHING
      else
        holds = before[requests] or NOTHING
      end
    end
    local letter, order_no
    if holds == NOTHING and limit == 1 and not closed and stock > 0 and find(order, ' 1 ', 1, true) then
      letter = 'A' -- what nearly everybody asks for, and most do who get anything
      stock = stock - 1
      held[user] = order
    else
      if type(holds) == 'string' then
        holds = parse(holds)
        held[user] = holds
      end
      local qty, key = 1, ''
      if holds ~= NOTHING or limit > 1 or not find(order, ' 1 ', 1, true) then
        qty, key = match(order, '^%d+ (%d+) (.*)$')
        qty = tonumber(qty)
      end
      local known, known_qty
      if key ~= '' and holds ~= NOTHING then
        known, known_qty = named(holds, key)
      end
      if place and not place[user] then -- too much to read
        letter = 'O'
      elseif known and tonumber(known_qty) == qty then
        letter = 'R'
        order_no = known
      elseif known then
        letter = 'K'
        order_no = known
      elseif holds.units > 0 and (closed or limit == 1) then
        letter = 'D'
        order_no = holds.last
      elseif closed then
        letter = closed
      elseif holds.units + qty > limit or holds.orders >= ORDERS_MAX or holds.over >= RELEASES_MAX
          or holds ~= NOTHING and holds.orders + holds.over == 0 then -- unreadable: sells nothing
        letter = 'L'
        order_no = holds.last
      elseif stock < qty then
        letter = 'S'
      else
        letter = 'A'
        stock = stock - qty
        if holds == NOTHING then
          held[user] = order
        else
          holds.units, holds.orders = holds.units + qty, holds.orders + 1
          holds.last, holds.lines = match(order, '^%d+'), holds.lines .. order .. ','
          joined = joined or {}
          joined[user] = holds
        end
      end
    end
    outcomes[requests] = letter
    if order_no then
      numbers = numbers + 1
      order_nos[numbers] = order_no
    end
    if letter == 'A' then
      if accepted then
        accepted[2 * count + 1], accepted[2 * count + 2] = user, order
      end
      count = count + 1
    elseif not accepted then
      accepted = {unpack(ARGV, first, i - 1)}
    end
  end
  local decision = {DECIDED, epoch, stock, account[3], account[4], gen, seq + count,
    concat(outcomes), order_nos}
  if count == 0 then
    return decision
  end
  return decision, {
    item_key = item_key, buyers_key = buyers_key, joined = joined, count = count,
    accepted = accepted or ARGV, first = accepted and 1 or first, last = accepted and 2 * count or last,
    gen = account[6], seq = seq, stock = stock, told = epoch > gen * 1000000000 and stock < TRICKLE,
  }
end

-- Decide.
local decisions, writes = {}, {}
local at = 3 -- of ARGV: where the next item starts
for k = 3, #KEYS, 2 do
  local first, last = at + 2, at + 1 + 2 * tonumber(ARGV[at + 1])
  local decision, write = decide(KEYS[k], KEYS[k + 1], first, last)
  decisions[#decisions + 1] = decision
  if write then
    write.item, write.epoch = ARGV[at], decision[2]
    writes[#writes + 1] = write
  end
  at = last + 1
end

-- Write. The stream first: XADD alone can still fail (at the last possible id), and then nothing
-- else is written, and what it has added is taken back. Numbers are written out here: redis.call
-- does so by way of a float, and slower.
local added = {}
for n, w in ipairs(writes) do
  added[n] = redis.pcall('XADD', orders_key, '*', 'item', w.item, 'gen', w.gen, 'seq', format('%d', w.seq + 1),
    'at_ms', now_text, unpack(w.accepted, w.first, w.last))
  if added[n].err then
    if n > 1 then
      redis.call('XDEL', orders_key, unpack(added, 1, n - 1))
    end
    return added[n]
  end
  waiting = waiting + w.count
end
for _, w in ipairs(writes) do
  redis.call('HSET', w.buyers_key, unpack(w.accepted, w.first, w.last))
  for user, holds in pairs(w.joined or {}) do
    redis.call('HSET', w.buyers_key, user, sub(holds.lines, 1, -2))
  end
  redis.call('HSET', w.item_key, 'stock', format('%d', w.stock), 'seq', format('%d', w.seq + w.count))
  if w.told then
    local users = {}
    for i = w.first, w.last, 2 do
      users[#users + 1] = w.accepted[i]
    end
    redis.call('PUBLISH', channel, format('%s %d %s %d %s',
      w.item, w.epoch, w.gen, w.seq, concat(users, ' ')))
  end
end
if #writes > 0 then
  redis.call('SET', waiting_key, waiting)
end

return {DECIDED, now_text, decisions}
