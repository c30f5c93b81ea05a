-- Change entries far from the end of a long log: one by one, with a shift of the totals before them.
--
-- Until the log is saved, `inserted`, `changed` and `removed` tell which entries these are, the last by
-- their index in the stored list; `moves` tells how much that index differs from a number of an entry.

-- Returns the functions for this. `logs`: some functions of event_log.lua.
local function make_far_changes(logs)
  local max, min = math.max, math.min
  local call = redis.call
  local time, total, stored_index = logs.time, logs.total, logs.stored_index
  local NONE, BY_ENTRY = logs.NONE, logs.BY_ENTRY
  local self = {}

  -- Lets entries be inserted, set or removed one by one.
  local function make_editable(log)
    if log.moves == NONE then
      log.moves, log.inserted, log.changed, log.removed = {}, {}, {}, {}
    end
  end

  -- Moves what is known of the entries from `first` on by one: 1 or -1.
  local function renumber(log, first, by)
    for _, name in ipairs(BY_ENTRY) do
      local moved = {}
      for i, value in pairs(log[name]) do
        moved[i >= first and i + by or i] = value
      end
      log[name] = moved
    end
    for _, move in ipairs(log.moves) do
      if move.from >= first then
        move.from = move.from + by
      end
    end
    log.n, log.from = log.n + by, log.from + by
  end

  -- Inserts an entry, of which nothing is known yet.
  local function insert_entry(log, i)
    make_editable(log)
    renumber(log, i, 1)
    log.inserted[i] = true
    table.insert(log.moves, {from = i + 1, by = -1})
  end

  local function remove_entry(log, i)
    make_editable(log)
    if not log.inserted[i] then
      table.insert(log.removed, stored_index(log, i))
    end
    for _, name in ipairs(BY_ENTRY) do
      log[name][i] = nil
    end
    renumber(log, i + 1, -1)
    table.insert(log.moves, {from = i, by = 1})
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

  -- Inserts an event after entry `i`, or adds it to that entry, and shifts the totals before it.
  function self.enter(log, i, at, is_merged, sent, attempted)
    if is_merged then
      local was_at = time(log, i)
      shift_before(log, was_at, -sent, -attempted)
      if was_at ~= at then
        make_editable(log)
        log.times[i] = at
        log.changed[i] = true
      end
    else
      shift_before(log, at, -sent, -attempted)
      local sent_by_then, attempted_by_then = total(log, i) + sent, total(log, i, true) + attempted
      insert_entry(log, i + 1)
      log.times[i + 1], log.sent_totals[i + 1], log.attempted_totals[i + 1] =
        at, sent_by_then, attempted_by_then
    end
    log.last = max(log.last, at)
    log.oldest = (is_merged and i == 1 or i == 0) and at or log.oldest
  end

  -- Takes out a few events, and shifts the totals before them. Returns true.
  function self.remove(log, entries, cost_at)
    table.sort(entries)
    for k = #entries, 1, -1 do
      local i = entries[k]
      shift_before(log, time(log, i), cost_at[i], cost_at[i])
      if total(log, i) == total(log, i - 1) and total(log, i, true) == total(log, i - 1, true) then
        remove_entry(log, i)
      end
    end
    log.last = log.n > 0 and time(log, log.n) or LONG_AGO
    log.oldest = log.n > 0 and time(log, 1) or LONG_AGO
    return true
  end

  -- Drops a few of too many shifts: those of the fewest entries, which are stored again.
  local function drop_short_shifts(log, logs)
    local shifts, lengths, previous = log.shifts, {}, log.trim
    for k, shift in ipairs(shifts) do
      local last = logs.last_by(log, shift.before - 1, previous, log.n)
      lengths[k] = {shift = k, first = previous + 1, last = last}
      previous = last
    end
    table.sort(lengths, function(one, other)
      return one.last - one.first < other.last - other.first
    end)
    make_editable(log)
    local dropped = {}
    for k = 1, 8 do
      local first, last = lengths[k].first, min(lengths[k].last, log.from - 1)
      logs.load(log, first, last)
      for i = first, last do
        log.changed[i] = not log.inserted[i] or nil
      end
      dropped[k] = lengths[k].shift
    end
    table.sort(dropped)
    for k = #dropped, 1, -1 do
      table.remove(shifts, dropped[k])
    end
  end

  -- Drops the shifts of no entry, if the entries are from `oldest` to `last`, and some of too many. Of
  -- those that remain, the last is before the last entry: one may be added without a look at them.
  function self.drop_shifts(log, oldest, last, logs)
    local shifts = log.shifts
    while #shifts > 0 and shifts[#shifts].before > last do
      local least = table.remove(shifts)
      for _, shift in ipairs(shifts) do
        shift.sent, shift.attempted = shift.sent - least.sent, shift.attempted - least.attempted
      end
      logs.lower_totals(log, least.sent, least.attempted)
    end
    while #shifts > 0 and shifts[1].before <= oldest do
      table.remove(shifts, 1)
    end
    if #shifts > MOST_SHIFTS then
      drop_short_shifts(log, logs)
    end
  end

  -- Stores the entries that have changed one by one, without those from `log.from` on. `write`
  -- returns an entry as it is stored. Returns a function that inserts the new ones, once the others
  -- are stored.
  function self.save(log, write)
    local elements, inserted = {}, {}
    for i in pairs(log.inserted) do
      inserted[#inserted + 1] = i
      local next = i + 1
      if next < log.from and not log.inserted[next] and not log.changed[next] then
        elements[next] = call('LINDEX', log.key, stored_index(log, next))
      end
    end
    local removed = {}
    for i, index in ipairs(log.removed) do
      removed[i] = call('LINDEX', log.key, index)
    end
    for i in pairs(log.changed) do
      call('LSET', log.key, stored_index(log, i), write(i))
    end
    for i, entry in ipairs(removed) do
      call('LREM', log.key, log.removed[i] * 2 < log.stored and 1 or -1, entry)
    end
    table.sort(inserted)
    return function()
      for k = #inserted, 1, -1 do -- each before the entry that follows it
        local next = inserted[k] + 1
        call('LINSERT', log.key, 'BEFORE', elements[next] or write(next), write(inserted[k]))
      end
    end
  end

  return self
end
