-- What is known to be full in a log with bookings, so that a search begins behind it.
--
-- A search has found that a window has less than some room from one moment until before another.
-- That stays true until something is taken out of there. It is stored in the tail of the log's state:
-- for each kind of window and each room, these and both moments.

local FULL, FULL_KEY_SIZE, FULL_SIZE = '<I6I6BI6', 19, 33
local MOST_FULL = 8 -- so many are remembered

-- Returns what is known by window and room, from a state, and the position after it; nil for nothing.
local function read_full(state)
  if #state == STATE_SIZE then
    return nil, STATE_SIZE + 1
  end
  local size, pos = struct.unpack('B', state, STATE_SIZE + 1)
  local full = {}
  for _ = 1, size do
    local since, before = struct.unpack('<i7i7', state, pos + FULL_KEY_SIZE)
    full[state:sub(pos, pos + FULL_KEY_SIZE - 1)] = {since = since, before = before}
    pos = pos + FULL_SIZE
  end
  return full, pos
end

-- Returns the beginning of the tail of a state.
local function write_full(full)
  local words = {}
  for key, each in pairs(full or {}) do
    words[#words + 1] = key .. struct.pack('<i7i7', each.since, each.before)
  end
  return string.char(#words) .. table.concat(words)
end

-- Returns the key of a window and a room; nil for a period of a calendar, of which nothing is stored.
local function full_key(window, room)
  if window.stretches then
    return nil
  end
  return struct.pack(FULL, window.length, window.slot, window.denied and 1 or 0, room)
end

-- Notes that a window has less than some room from `since` until before `before`.
local function add_full(log, key, since, before)
  local known = log.full and log.full[key]
  if known and known.since <= since and since <= known.before then
    known.before = math.max(known.before, before)
    return
  elseif known and known.since <= since and known.before > log.newest then
    return -- what is full earlier matters more
  end
  local size = 0
  for _ in pairs(log.full or {}) do
    size = size + 1
  end
  if not log.full or size >= MOST_FULL then
    log.full = {}
  end
  log.full[key] = {since = since, before = before}
end

-- Notes that an event is taken out: the windows that contained it have more room.
local function forget_full(log, event)
  for key, each in pairs(log.full or {}) do
    local length, slot = struct.unpack(FULL, key)
    each.before = math.min(each.before, event - length - slot)
  end
end
