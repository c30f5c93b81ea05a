-- Open and search the logs of counts: what ratelimit_mail.counting.event_log does, on lists.
--
-- A change of an entry changes the totals of all entries after it. If these are few, they are stored
-- again: those `from` this one on. Otherwise one element of the list is inserted, removed or set, and
-- the totals before it are shifted instead. `moves` tells how many elements the stored list has more
-- or less by then, until the log is saved.

-- Returns the functions that open and search logs.
local function event_logs()
  local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
  local call = redis.call

  local function common_divisor(a, b)
    while b > 0 do
      a, b = b, a % b
    end
    return a
  end

  -- The tables that have something of an entry by its number.
  local BY_ENTRY = {'times', 'sent_totals', 'attempted_totals', 'inserted', 'changed'}
  local LONG = 32 -- so many entries are better not stored again
  local FEW = 8 -- so many events are taken out one by one

  local opened = {}
  local NONE = {} -- of a log without changes far from its end

  -- Returns the log at `key`, or nil if the value there is not a log. `span`, `slot`, `ceiling`:
  -- what the current policy needs retained; what other policies need is retained as well. Nil if
  -- the log is only read or has been opened before.
  local function open(key, span, slot, ceiling)
    if opened[key] then
      return opened[key]
    end
    local state, is_foreign = fetch('LINDEX', key, -1)
    if is_foreign or state and not is_state(state) then
      return nil
    end
    local _, generation, n, newest, last, oldest = nil, nil, 0, LONG_AGO, LONG_AGO, LONG_AGO
    local base, sent, attempted_base, attempted, compact_at, expires = 0, 0, 0, 0, 64, LONG_AGO
    local full, shifts
    if not state then
      generation = new_generation()
    else
      local log_span, log_slot, log_ceiling
      _, generation, n, newest, last, oldest, base, sent, attempted_base, attempted, compact_at,
        log_span, log_slot, log_ceiling, expires = struct.unpack(STATE, state)
      full, _ = read_full(state)
      shifts = read_shifts(state, _)
      if span then
        span, ceiling = max(log_span, span), max(log_ceiling, ceiling)
        slot = common_divisor(log_slot, slot)
      else
        span, slot, ceiling = log_span, log_slot, log_ceiling
      end
    end
    opened[key] = {
      key = key, times = {}, sent_totals = {}, attempted_totals = {}, trim = 0, stored = n,
      from = n + 1, stored_oldest = oldest, generation = generation, n = n, newest = newest,
      last = last, oldest = oldest, base = base, sent = sent, attempted_base = attempted_base,
      attempted = attempted, compact_at = compact_at, span = span, slot = slot, ceiling = ceiling,
      expires = expires, full = full, shifts = shifts, moves = NONE, inserted = NONE, changed = NONE,
      removed = NONE,
    }
    return opened[key]
  end

  local function read(log, i, entry)
    log.times[i], log.sent_totals[i], log.attempted_totals[i] =
      read_entry(entry, log.stored_oldest, log.base, log.attempted_base, log.shifts)
  end

  -- Returns an entry with these totals as it is stored. `oldest`: the first entry's moment.
  local function write(log, at, sent, attempted, oldest)
    local more, more_attempted = 0, 0
    if log.shifts then
      more, more_attempted = shift_at(log.shifts, at)
    end
    return write_entry(at, sent - more, attempted - more_attempted, oldest,
      log.attempted_base - more_attempted)
  end

  -- Returns the index in the stored list of an entry, or where one that is new will be.
  local function stored_index(log, i)
    local index = i - 1
    for _, move in ipairs(log.moves) do
      if i >= move.from then
        index = index + move.by
      end
    end
    return index
  end

  local function time(log, i)
    if not log.times[i] then
      read(log, i, call('LINDEX', log.key, stored_index(log, i)))
    end
    return log.times[i]
  end

  -- Returns what was sent by entry `i`; with `denied`, what was attempted.
  local function total(log, i, denied)
    if i == 0 then
      return denied and log.attempted_base or log.base
    end
    if not log.times[i] then
      time(log, i)
    end
    return denied and log.attempted_totals[i] or log.sent_totals[i]
  end

  local function load(log, first, last)
    while first <= last and log.times[first] do
      first = first + 1
    end
    while first <= last and log.times[last] do
      last = last - 1
    end
    while first <= last do -- up to the next move at once
      local high = last
      for _, move in ipairs(log.moves) do
        if move.from > first then
          high = min(high, move.from - 1)
        end
      end
      local index = stored_index(log, first)
      if not log.inserted[first] then
        for i, entry in ipairs(call('LRANGE', log.key, index, index + high - first)) do
          if not log.times[first + i - 1] then
            read(log, first + i - 1, entry)
          end
        end
      end
      first = high + 1
    end
  end

  -- Loads the entries from `first` on, so that they can be changed and are stored again.
  local function make_writable(log, first)
    if first >= log.from then
      return
    end
    load(log, first, log.from - 1)
    log.from = first
    if log.moves == NONE then
      return
    end
    local index = stored_index(log, first)
    for i = #log.removed, 1, -1 do
      if log.removed[i] >= index then
        table.remove(log.removed, i)
      end
    end
    for _, set in ipairs({log.inserted, log.changed}) do
      for i in pairs(set) do
        if i >= first then
          set[i] = nil
        end
      end
    end
  end

  -- Lowers the totals of a log and of its entries that have been read: only differences matter.
  local function lower_totals(log, sent, attempted)
    for i in pairs(log.times) do
      log.sent_totals[i] = log.sent_totals[i] - sent
      log.attempted_totals[i] = log.attempted_totals[i] - attempted
    end
    log.base, log.sent = log.base - sent, log.sent - sent
    log.attempted_base = log.attempted_base - attempted
    log.attempted = log.attempted - attempted
  end

  local loaded_far_changes

  local function far_changes()
    loaded_far_changes = loaded_far_changes
      or make_far_changes(
      {time = time, total = total, stored_index = stored_index, NONE = NONE, BY_ENTRY = BY_ENTRY})
    return loaded_far_changes
  end

  -- Returns the last entry from `low` to `high` that is not later than `at`; `low` is taken to be
  -- one.
  local function last_by(log, at, low, high)
    if high > low and time(log, high) <= at then
      return high
    end
    while low < high do
      local middle = ceil((low + high) / 2)
      if time(log, middle) <= at then
        low = middle
      else
        high = middle - 1
      end
    end
    return low
  end

  -- Returns the same, most often near `high`.
  local function last_by_near_end(log, at, low, high)
    local step, probe = 1, high
    while probe > low and time(log, probe) > at do
      high = probe - 1
      probe, step = max(low, probe - step), 2 * step
    end
    return last_by(log, at, probe, high)
  end

  -- Returns the first entry from `low` to `high` with a total of at least `target`, which `high`
  -- has.
  local function first_with(log, target, low, high, denied)
    local function total_at(i)
      return total(log, i, denied)
    end
    return first_with_total(total_at, target, low, high, total_at(low - 1), total_at(high))
  end

  -- Returns the same, most often near `high`.
  local function first_with_near_end(log, target, low, high, denied)
    local step = 1
    while high > low do
      local probe = max(low, high - step)
      if total(log, probe, denied) < target then
        return first_with(log, target, probe + 1, high, denied)
      end
      high, step = probe, 2 * step
    end
    return low
  end

  -- Inserts an event in the order of time, before the bookings after it.
  local function enter(log, at, present, sent, attempted)
    local i = log.last <= at and log.n or last_by(log, at, 0, log.n)
    local last = i > log.trim and time(log, i)
    local is_merged = last
      and (last == at or at <= present and floor(last / log.slot) == floor(at / log.slot))
    if i + LONG < log.n and i + 1 < log.from and (last or i == 0) then
      return far_changes().enter(log, i, at, is_merged, sent, attempted)
    end
    if is_merged then
      make_writable(log, i)
      log.times[i] = at
      i = i - 1
    else
      make_writable(log, i + 1)
      for j = log.n, i + 1, -1 do
        log.times[j + 1], log.sent_totals[j + 1], log.attempted_totals[j + 1] =
          log.times[j], log.sent_totals[j], log.attempted_totals[j]
      end
      log.times[i + 1], log.sent_totals[i + 1], log.attempted_totals[i + 1] =
        at, total(log, i), total(log, i, true)
      log.n = log.n + 1
    end
    for j = i + 1, log.n do
      log.sent_totals[j] = log.sent_totals[j] + sent
      log.attempted_totals[j] = log.attempted_totals[j] + attempted
    end
    log.sent, log.attempted = log.sent + sent, log.attempted + attempted
    log.last = max(log.last, at)
    log.oldest = i == 0 and at or log.oldest
  end

  -- Takes out events of this log; those that have left every window, were forgotten by a reset or
  -- were lost by the server are ignored. Returns whether any was there.
  local function remove(log, events)
    local cost_at, entries, first, last = {}, {}, nil, nil
    -- A few are most often among the latest; for many, all is read at once.
    local low = #events > FEW and 0 or max(0, log.n - 8)
    load(log, low + 1, min(log.n, log.from - 1))
    for _, event in ipairs(events) do
      local at = event.moment
      local is_recent = low > 0 and time(log, low + 1) < at
      local i = last_by(log, at - 1, is_recent and low + 1 or 0, log.n) + 1
      if event.generation == log.generation and i <= log.n and at > log.newest - log.span
        and floor(time(log, i) / log.slot) == floor(at / log.slot)
        and total(log, i) - total(log, i - 1) >= (cost_at[i] or 0) + event.cost
      then
        if not cost_at[i] then
          entries[#entries + 1] = i
        end
        cost_at[i] = (cost_at[i] or 0) + event.cost
        first, last = min(first or i, i), max(last or i, i)
      end
    end
    if not first then
      return false
    end
    forget_full(log, time(log, first))
    if #entries <= FEW and first + LONG < log.n and last < log.from then
      return far_changes().remove(log, entries, cost_at)
    end
    make_writable(log, first)
    local n, removed = first - 1, 0
    for i = first, log.n do
      removed = removed + (cost_at[i] or 0)
      local sent, attempted = log.sent_totals[i] - removed, log.attempted_totals[i] - removed
      if sent ~= total(log, n) or attempted ~= total(log, n, true) then
        n = n + 1
        log.times[n], log.sent_totals[n], log.attempted_totals[n] = log.times[i], sent, attempted
      end
    end
    log.n, log.sent, log.attempted = n, log.sent - removed, log.attempted - removed
    log.last = n > 0 and time(log, n) or LONG_AGO
    if first == 1 then
      log.oldest = n > 0 and time(log, 1) or LONG_AGO
    end
    return true
  end

  -- Returns a copy of a log, which may be changed but not saved.
  local function copy(log)
    local new = {}
    for name, value in pairs(log) do
      new[name] = value
    end
    for _, name in ipairs(BY_ENTRY) do
      if log[name] ~= NONE then
        new[name] = setmetatable({}, getmetatable(log[name]))
        for i, value in pairs(log[name]) do
          new[name][i] = value
        end
      end
    end
    if log.moves ~= NONE then
      new.moves, new.removed = {}, {}
      for i, move in ipairs(log.moves) do
        new.moves[i] = {from = move.from, by = move.by}
      end
      for i, index in ipairs(log.removed) do
        new.removed[i] = index
      end
    end
    new.shifts = log.shifts and {}
    for i, shift in ipairs(log.shifts or {}) do
      new.shifts[i] = {before = shift.before, sent = shift.sent, attempted = shift.attempted}
    end
    if log.full then
      new.full = {}
      for key, each in pairs(log.full) do
        new.full[key] = {since = each.since, before = each.before}
      end
    end
    return new
  end

  return {
    open = open, write = write, far_changes = far_changes, stored_index = stored_index, time = time, total = total,
    load = load, make_writable = make_writable, last_by = last_by, last_by_near_end = last_by_near_end,
    first_with = first_with, first_with_near_end = first_with_near_end, lower_totals = lower_totals,
    enter = enter, remove = remove, copy = copy,
  }
end
