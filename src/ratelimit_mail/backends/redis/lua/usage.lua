-- Read logs. ARGV[1]: the time, whether it is from a clock of the backend (otherwise the server's
-- clock is used), and the windows of each log, packed. KEYS: the logs. Returns for each window what
-- is used, what remains, and the milliseconds until it is empty.

local now, has_clock, pos = struct.unpack('<i7B', ARGV[1])
if has_clock == 0 then
  now = server_time()
end
local logs = event_logs()
local room = availability(logs, now)
local readings = {}
for i = 1, #KEYS do
  local log = logs.open(KEYS[i], 1, 1, 0)
  if not log then
    return {-1, i}
  end
  local windows
  windows, pos = struct.unpack('<I2', ARGV[1], pos)
  local after = pos + windows * WINDOW_SIZE
  while pos < after do
    local window
    window, pos = read_window(ARGV[1], pos)
    readings[#readings + 1] = room.used(log, window)
    readings[#readings + 1] = room.remaining(log, window)
    readings[#readings + 1] = room.empty_in(log, window)
  end
end
return readings
