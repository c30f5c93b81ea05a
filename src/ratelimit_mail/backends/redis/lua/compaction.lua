-- Compact a long log: merge entries that no window can tell apart, so that memory stays bounded.
--
-- These are those of one slot, and refused attempts so old that the refused attempts after them fill
-- the largest limit. Each script that has changed the log looks at a few entries, so that none takes
-- long. Meanwhile `compact_at` in the state is an odd number, that of the next entry to look at.
-- Otherwise it is even: so many entries the log has when it is compacted.

local COMPACTED_TOGETHER = 64
local is_compacted -- by this script, once

-- Compacts a few entries of a log that is stored. `pack_state`: returns the state of a log.
local function compact_some(key, now, pack_state)
  is_compacted = true
  local call, floor, max, min = redis.call, math.floor, math.max, math.min
  local logs = event_logs()
  local log = logs.open(key)
  local time, total, slot = logs.time, logs.total, log.slot
  local past = logs.last_by(log, max(now, log.newest), 0, log.n)

  -- Returns what was refused by entry `i`.
  local function refused_by(i)
    return total(log, i, true) - total(log, i)
  end

  -- A refused attempt is outweighed if no more than this was refused until after it.
  local most = refused_by(past) - log.ceiling
  local first = log.compact_at % 2 > 0 and min(log.compact_at, past + 1) or 1
  local last = min(first + COMPACTED_TOGETHER - 1, past)
  logs.load(log, max(1, first - 1), last)
  local previous, is_done = first - 1, last == past
  local removed, is_removed, totals_from = {}, {}, {}
  local function remove(i)
    removed[#removed + 1], is_removed[i] = i, true
  end
  for i = first, last do
    local is_outweighed = refused_by(i) <= most
    if slot == 1 and not is_outweighed then
      is_done = true -- nor is any entry after it
      break
    elseif previous > 0 and floor(time(log, previous) / slot) == floor(time(log, i) / slot) then
      totals_from[previous] = nil
      remove(previous)
      previous = i
    elseif is_outweighed and total(log, i) == total(log, i - 1) then
      totals_from[previous] = i
      remove(i)
    else
      previous = i
    end
  end

  local oldest, newest_entry = 1, log.n
  while is_removed[oldest] do
    oldest = oldest + 1
  end
  while is_removed[newest_entry] do
    newest_entry = newest_entry - 1
  end
  oldest = oldest <= log.n and time(log, oldest) or LONG_AGO
  for i, other in pairs(totals_from) do
    local sent, attempted = total(log, other), total(log, other, true)
    if i == 0 then
      log.base, log.attempted_base = sent, attempted
    else
      call('LSET', key, i - 1, logs.write(log, time(log, i), sent, attempted, oldest))
    end
  end
  if #removed > 0 then
    for _, i in ipairs(removed) do
      call('LSET', key, i - 1, '')
    end
    call('LREM', key, first * 2 < log.n and #removed or -#removed, '')
  end
  log.newest = past > 0 and max(log.newest, time(log, past)) or log.newest
  local n = log.n - #removed
  local next = last + 1 - #removed
  log.compact_at = is_done and 2 * n + 64 or max(1, next - (next + 1) % 2)
  local newest_time = newest_entry > 0 and time(log, newest_entry) or LONG_AGO
  call('LSET', key, -1, pack_state(log, n, newest_time, oldest))
end
