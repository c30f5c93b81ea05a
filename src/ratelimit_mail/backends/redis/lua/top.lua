-- Look for the logs of one ledger that hold a large share of a window; read only, in small steps.
--
-- ARGV[1]: the time, whether it is from a clock of the backend (otherwise the server's clock is
-- used), and the share that must be exceeded; then for each unit its windows, packed. ARGV[2]: the
-- name of the ledger. ARGV[3]: the cursor of one SCAN, whose count and pattern follow; or empty, and
-- the keys of logs to look at follow. Returns the next cursor, and by twos a key and the largest share that its log
-- holds of a window; an empty share says that there was too much to do, and that the key must be
-- looked at by another call. Most logs are passed over by their state alone.

local MOST_SEARCHED = 16 -- so many logs are searched by one call

local now, has_clock, threshold, pos = struct.unpack('<i7Bd', ARGV[1])
if has_clock == 0 then
  now = server_time()
end
local windows_of = {}
for unit = 0, 3 do
  local count
  count, pos = struct.unpack('<I2', ARGV[1], pos)
  local windows = {}
  for i = 1, count do
    local limit, length, slot, window_flags
    limit, length, slot, window_flags, pos = struct.unpack(WINDOW, ARGV[1], pos)
    windows[i] = {limit = limit, length = length, slot = slot, denied = window_flags % 2 > 0}
  end
  windows_of[unit] = windows
end

-- Returns the windows that count in a key; nil if it is not a log of the ledger.
local middle = '}:' .. ARGV[2] .. ':'
local function windows_in(key)
  local start = string.find(key, '}', 1, true)
  if not start or string.sub(key, start, start + #middle - 1) ~= middle then
    return nil
  end
  local unit = string.byte(key, start + #middle) or 0
  local after = string.byte(key, start + #middle + 1)
  if after and after ~= 58 then -- a colon, and the subject
    return nil
  end
  return windows_of[unit - 48]
end

-- Returns the largest share that a log may hold by its state, whatever the times of its events.
local function bound(state, windows)
  local _, _, _, newest, last, _, _, _, attempted_base, attempted = struct.unpack(STATE, state)
  local held, most = attempted - attempted_base, 0
  for _, window in ipairs(windows) do
    local share = held / window.limit
    if share > most and math.max(newest, last) + window.length + window.slot > now then
      most = share
    end
  end
  return most
end

local cursor, keys = '0', {}
if ARGV[3] ~= '' then
  local reply = redis.call('SCAN', ARGV[3], 'COUNT', ARGV[4], 'MATCH', ARGV[5])
  cursor, keys = reply[1], reply[2]
else
  for i = 4, #ARGV do
    keys[#keys + 1] = ARGV[i]
  end
end

local answer = {cursor}
local room, logs
local searched = 0
for _, key in ipairs(keys) do
  local windows = windows_in(key)
  local state = windows and #windows > 0 and redis.pcall('LINDEX', key, -1)
  if is_state(state) and bound(state, windows) > threshold then
    local share = ''
    searched = searched + 1
    if searched <= MOST_SEARCHED then
      logs = logs or event_logs()
      room = room or availability(logs, now)
      local log, most = logs.open(key), 0
      for _, window in ipairs(windows) do
        most = math.max(most, room.used(log, window) / window.limit)
      end
      share = string.format('%.17g', most)
    end
    answer[#answer + 1] = key
    answer[#answer + 1] = share
  end
end
return answer
