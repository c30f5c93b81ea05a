-- The server's clock, used if the backend has no clock of its own.

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
