-- Totals that are not stored as they are, so that a change in the middle of a long log is short.
--
-- An event that is inserted or taken out changes the totals of all events after it, or else, because
-- only differences matter, those of all events before it. The entries stay as they are: a shift says
-- how much is added to the stored totals of those before its moment, down to the shift before it.

local SHIFT, SHIFT_SIZE = '<i7i6i6', 19
local MOST_SHIFTS = 64 -- so many may be stored with a log

-- Returns the shifts of a state, in the order of their moments; nil for none.
local function read_shifts(state, pos)
  if pos > #state then
    return nil
  end
  local shifts = {}
  for each = pos, #state, SHIFT_SIZE do
    local shift = {}
    shift.before, shift.sent, shift.attempted = struct.unpack(SHIFT, state, each)
    shifts[#shifts + 1] = shift
  end
  return shifts
end

local function write_shifts(shifts)
  local words = {}
  for i, shift in ipairs(shifts or {}) do
    words[i] = struct.pack(SHIFT, shift.before, shift.sent, shift.attempted)
  end
  return table.concat(words)
end

-- Returns what is added to the stored totals of an entry.
local function shift_at(shifts, at)
  local low, high = 1, #shifts
  if high == 0 or at >= shifts[high].before then
    return 0, 0
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if at < shifts[middle].before then
      high = middle
    else
      low = middle + 1
    end
  end
  return shifts[low].sent, shifts[low].attempted
end
