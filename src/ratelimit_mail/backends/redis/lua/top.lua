-- Look for the logs of one ledger that hold a large share of a window; read only, in small steps.
--
-- ARGV[1]: the time, whether it is from a clock of the backend (otherwise the server's clock is
-- used), whether keys are tagged, and the share that must be exceeded; then for each unit its
-- windows, packed. ARGV[2]: the name of the ledger. ARGV[3]: the cursor of one SCAN, whose count and
-- pattern follow; or empty, and the keys of logs to look at follow.
--
-- Returns the next cursor, and by twos a key and the largest share that its log holds of a window.
-- An empty share says that there was too much to do, and that another call must look at the key.
-- Most logs are passed over by their state alone.

local MOST_SEARCHED = 16 -- so many logs are searched by one call
local FIRST_UNIQUE = 54 -- the digit of the first unit of unique recipients

local now, has_clock, is_tagged, threshold, pos = struct.unpack('<i7BBd', ARGV[1])
if has_clock == 0 then
  now = server_time()
end
local windows_of, least = {}, {} -- by the digit of the unit
for unit = 48, 55 do
  local count
  count, pos = struct.unpack('<I2', ARGV[1], pos)
  local windows = {}
  local after = pos + count * WINDOW_SIZE
  while pos < after do
    local window
    window, pos = read_window(ARGV[1], pos)
    windows[#windows + 1] = window
    least[unit] = math.min(least[unit] or math.huge, threshold * window.limit)
  end
  windows_of[unit] = windows
end

-- Returns the digit of the unit that is counted in a key; nil if it is not a log of the ledger.
local middle = '}:' .. ARGV[2] .. ':'
local size, sub, byte = #middle, string.sub, string.byte
local function unit_of(key)
  if is_tagged == 0 then
    return sub(key, -size - 1, -2) == middle and byte(key, -1)
  end
  local start = string.find(key, '}', 1, true)
  return start and sub(key, start, start + size - 1) == middle
    and byte(key, start + size + 1) == 58 and byte(key, start + size) -- a colon, and the subject
end

-- Returns whether a log may hold more than the threshold, by its state and its number of recipients.
local function is_promising(key, state, unit)
  local attempted_base, attempted = struct.unpack('<I6I6', state, 54)
  local held = attempted - attempted_base
  if unit >= FIRST_UNIQUE then
    local size = redis.pcall('ZCARD', members_key(key))
    held = held + (type(size) == 'number' and size or 0)
  end
  if held <= least[unit] then -- nearly always
    return false
  end
  local newest, last = struct.unpack('<i7i7', state, 21)
  for _, window in ipairs(windows_of[unit]) do
    if held > threshold * window.limit
      and math.max(newest, last) + window.length + window.slot > now
    then
      return true
    end
  end
  return false
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
local pcall = redis.pcall
for _, key in ipairs(keys) do
  local unit = unit_of(key)
  local state = unit and least[unit] and pcall('LINDEX', key, -1)
  if is_state(state) and is_promising(key, state, unit) then
    local share = ''
    searched = searched + 1
    if searched <= MOST_SEARCHED then
      logs = logs or event_logs()
      room = room or availability(logs, now)
      local log, most = logs.open(key), 0
      local unique = unit >= FIRST_UNIQUE and unique_recipients(logs)
      if unique and unique.open(log) then
        log = unique.read(log, {})
      end
      for _, window in ipairs(windows_of[unit]) do
        most = math.max(most, room.used(log, window) / window.limit)
      end
      share = string.format('%.17g', most)
    end
    answer[#answer + 1] = key
    answer[#answer + 1] = share
  end
end
return answer
