-- Read logs. ARGV[1]: the time, whether it is from a clock of the backend (otherwise the server's
-- clock is used), and the windows of each log, packed; 32768 is added to the number of windows of a
-- log of unique recipients. KEYS: the logs, then the sorted sets of unique recipients. Returns for
-- each window what is used, what remains, and the milliseconds until it is empty.

local now, has_clock, pos = struct.unpack('<i7B', ARGV[1])
if has_clock == 0 then
  now = server_time()
end
local logs = event_logs()
local room = availability(logs, now)
local readings = {}
local i = 0
while pos <= #ARGV[1] do
  i = i + 1
  local log = logs.open(KEYS[i], 1, 1, 0)
  if not log then
    return {-1, i}
  end
  local windows
  windows, pos = struct.unpack('<I2', ARGV[1], pos)
  if windows >= 32768 then -- of unique recipients
    windows = windows - 32768
    local unique = unique_recipients(logs)
    if not unique.open(log) then
      return {-1, number_of_key(members_key(log.key))}
    end
    log = unique.read(log, {})
  end
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
