-- The server's clock: the time if the backend has no clock of its own, and what sets one log, or
-- one queue, apart from another that was lost.

local function server_microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function server_time()
  return math.floor(server_microseconds() / 1000)
end
