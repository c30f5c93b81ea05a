-- The windows of a packed message: what ratelimit_mail.counting.window does.
--
-- The periods of a calendar are in stretches. In a stretch one period begins when it begins, and
-- another one after each step, until the next stretch begins; the last stretch has no end.

-- Returns the window that is packed at `pos`, and the position after it.
local function read_window(message, pos)
  local limit, length, slot, flags
  limit, length, slot, flags, pos = struct.unpack(WINDOW, message, pos)
  local window = {
    limit = limit, length = length, slot = slot, denied = flags % 2 > 0, spread = flags % 4 >= 2,
  }
  if flags >= 4 then
    local records
    records, window.stretches = struct.unpack('<I2I2', message, pos)
    window.message, window.pos = message, pos + 4 - 13 -- so that stretch 1 is 13 bytes after it
    window.starts, window.ends = 0, 0
    pos = pos + records * WINDOW_SIZE
  end
  return window, pos
end

-- Returns when the period of a calendar that contains `moment` begins, and when the next one does.
local function period(window, moment)
  if window.starts <= moment and moment < window.ends then
    return window.starts, window.ends
  end
  local function stretch(i)
    return struct.unpack('<i7I6', window.message, window.pos + i * 13)
  end
  local low, high = 1, window.stretches
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if stretch(middle) <= moment then
      low = middle
    else
      high = middle - 1
    end
  end
  local first, step = stretch(low)
  local starts = first + math.floor((moment - first) / step) * step
  local ends = starts + step
  if low < window.stretches then
    ends = math.min(ends, (stretch(low + 1)))
  end
  window.starts, window.ends = starts, ends
  return starts, ends
end

-- Returns the latest event that no longer counts at `moment`.
local function cutoff(window, moment)
  local slot = window.slot
  if window.stretches then
    return math.floor(period(window, moment) / slot) * slot - 1
  end
  return math.floor((moment - window.length + 1) / slot) * slot - 1
end

-- Returns the first moment at which an event has left a window.
local function leaves_at(window, event)
  if window.stretches then
    local _, ends = period(window, math.floor(event / window.slot) * window.slot + window.slot - 1)
    return ends
  end
  return expiry(event, window.length, window.slot)
end
