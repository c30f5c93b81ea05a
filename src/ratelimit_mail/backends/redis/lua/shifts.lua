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

-- Adds to the totals of the entries of a log before a moment, and to those of entry 0.
local function shift_before(log, moment, sent, attempted)
  local times, sent_totals, attempted_totals = log.times, log.sent_totals, log.attempted_totals
  for i, at in pairs(times) do
    if at < moment then
      sent_totals[i], attempted_totals[i] = sent_totals[i] + sent, attempted_totals[i] + attempted
    end
  end
  log.base, log.attempted_base = log.base + sent, log.attempted_base + attempted
  log.shifts, log.is_shifted = log.shifts or {}, true
  local shifts = log.shifts
  local place = #shifts + 1
  for k, shift in ipairs(shifts) do
    if shift.before >= moment then
      place = k
      break
    end
  end
  local next = shifts[place]
  if not next or next.before > moment then
    table.insert(shifts, place, {
      before = moment, sent = next and next.sent or 0, attempted = next and next.attempted or 0,
    })
  end
  for k = 1, place do
    shifts[k].sent, shifts[k].attempted = shifts[k].sent + sent, shifts[k].attempted + attempted
  end
end

-- Drops the shifts of no entry, if the entries are from `oldest` to `last`. Of those that remain, the
-- last is before the last entry, so that an entry may be added without a look at them.
local function drop_shifts(log, oldest, last)
  local shifts = log.shifts
  while #shifts > 0 and shifts[#shifts].before > last do
    local least = table.remove(shifts)
    local sent, attempted = least.sent, least.attempted
    for _, shift in ipairs(shifts) do
      shift.sent, shift.attempted = shift.sent - sent, shift.attempted - attempted
    end
    for i in pairs(log.times) do
      log.sent_totals[i] = log.sent_totals[i] - sent
      log.attempted_totals[i] = log.attempted_totals[i] - attempted
    end
    log.base, log.sent = log.base - sent, log.sent - sent
    log.attempted_base = log.attempted_base - attempted
    log.attempted = log.attempted - attempted
  end
  while #shifts > 0 and shifts[1].before <= oldest do
    table.remove(shifts, 1)
  end
end
