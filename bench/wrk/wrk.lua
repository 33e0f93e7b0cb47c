-- What wrk sends: each user's request once, on whichever connection is free. The requests
-- are built before the clock starts, so that wrk only copies them.
--
-- Arguments: path (in it {a-b} stands for each number from a to b, a user each), first user, number of users, number of threads. User n has the token
-- "bench-" and n with 20 digits (target.Token). Thread t of T sends the users t, t + T, ...
-- A thread that runs out starts again and counts that as wrapped.

local threads = {}

function setup(thread)
  thread:set("index", #threads)
  threads[#threads + 1] = thread
end

function init(args)
  local path, first, count, stride = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  requests, sent = {}, 0
  local before, low, high, after = string.match(path, "^(.*){(%d+)-(%d+)}(.*)$")
  for user = first + index, first + count - 1, stride do
    local at = path
    if low then
      at = before .. string.format("%.0f", low + user % (high - low + 1)) .. after
    end
    requests[#requests + 1] = "POST " .. at .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
      .. "\r\nAuthorization: Bearer " .. string.format("bench-%020d", user)
      .. "\r\nContent-Length: 0\r\n\r\n"
  end
  users = #requests
end

function request()
  local n = sent % users + 1
  sent = sent + 1
  return requests[n]
end

-- No response(): wrk would parse each answer for Lua. It counts statuses above 399 itself.
function done(summary, latency)
  local wrapped = 0
  for _, thread in ipairs(threads) do
    wrapped = wrapped + math.max(0, thread:get("sent") - thread:get("users"))
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"refused":%d,"socket_errors":%d,"duration_us":%d,"wrapped":%d,' ..
    '"p50_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, wrapped, latency:percentile(50), latency:percentile(99), latency.max))
end
