-- Open and search the logs of counts: what ratelimit_mail.counting.event_log does, on lists.
--
-- A change of an entry changes the totals of all entries after it, which are stored again: those
-- `from` this one on. What is taken out near the start of a long log changes the totals before it
-- instead, and the rest stays as it is stored: the first `head` entries take the place of the first
-- `cut` that are stored.

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

  local LONG = 128 -- so many entries are better not stored again

  local opened = {}

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
    if not state then
      generation = new_generation()
    else
      local log_span, log_slot, log_ceiling
      _, generation, n, newest, last, oldest, base, sent, attempted_base, attempted, compact_at,
        log_span, log_slot, log_ceiling, expires = struct.unpack(STATE, state)
      if span then
        span, ceiling = max(log_span, span), max(log_ceiling, ceiling)
        slot = common_divisor(log_slot, slot)
      else
        span, slot, ceiling = log_span, log_slot, log_ceiling
      end
    end
    opened[key] = {
      key = key, times = {}, sent_totals = {}, attempted_totals = {}, trim = 0, stored = n,
      from = n + 1, stored_oldest = oldest, stored_base = base,
      stored_attempted_base = attempted_base, generation = generation, n = n, newest = newest,
      last = last, oldest = oldest, base = base, sent = sent, attempted_base = attempted_base,
      attempted = attempted, compact_at = compact_at, span = span, slot = slot, ceiling = ceiling,
      expires = expires, head = 0, cut = 0, full = state and read_full(state),
    }
    return opened[key]
  end

  local function read(log, i, entry)
    log.times[i], log.sent_totals[i], log.attempted_totals[i] =
      read_entry(entry, log.stored_oldest, log.stored_base, log.stored_attempted_base)
  end

  local function time(log, i)
    if not log.times[i] then
      read(log, i, call('LINDEX', log.key, i - log.head + log.cut - 1))
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
    if first <= last then
      local moved = log.cut - log.head
      for i, entry in ipairs(call('LRANGE', log.key, first + moved - 1, last + moved - 1)) do
        read(log, first + i - 1, entry)
      end
    end
  end

  -- Loads the entries from `first` on, so that they can be changed and are stored again.
  local function make_writable(log, first)
    if log.cut > 0 then
      load(log, log.head + 1, log.n)
      log.from, log.head, log.cut = 1, 0, 0
    elseif first < log.from then
      load(log, first, log.from - 1)
      log.from = first
    end
  end

  -- Forgets what was read of the entries from `first` on.
  local function forget_read(log, first)
    local times, sent_totals, attempted_totals = log.times, log.sent_totals, log.attempted_totals
    for i in pairs(times) do
      if i >= first then
        times[i], sent_totals[i], attempted_totals[i] = nil, nil, nil
      end
    end
  end

  -- Lowers the totals of the first `last` entries and what is forgotten before them.
  local function lower_head(log, last, sent, attempted)
    log.base, log.attempted_base = log.base - sent, log.attempted_base - attempted
    for i = 1, last do
      log.sent_totals[i] = log.sent_totals[i] - sent
      log.attempted_totals[i] = log.attempted_totals[i] - attempted
    end
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

  -- Inserts an event after entry `i`, or adds it to that entry, and changes the totals before it.
  local function enter_at_head(log, i, at, is_merged, sent, attempted)
    if i > log.head then
      load(log, log.head + 1, i)
      log.head, log.cut = i, log.cut + i - log.head
    end
    if is_merged then
      log.times[i] = at
      lower_head(log, i - 1, sent, attempted)
    else
      forget_read(log, log.head + 1)
      for j = log.head, i + 1, -1 do
        log.times[j + 1], log.sent_totals[j + 1], log.attempted_totals[j + 1] =
          log.times[j], log.sent_totals[j], log.attempted_totals[j]
      end
      log.times[i + 1], log.sent_totals[i + 1], log.attempted_totals[i + 1] =
        at, total(log, i), total(log, i, true)
      lower_head(log, i, sent, attempted)
      log.head, log.n, log.from = log.head + 1, log.n + 1, log.n + 2
    end
    log.last = max(log.last, at)
    log.oldest = (is_merged and i == 1 or i == 0) and at or log.oldest
  end

  -- Inserts an event in the order of time, before the bookings after it.
  local function enter(log, at, present, sent, attempted)
    local i = log.last <= at and log.n or last_by(log, at, 0, log.n)
    local last = i > log.trim and time(log, i)
    local is_merged = last
      and (last == at or at <= present and floor(last / log.slot) == floor(at / log.slot))
    if log.cut > 0 and i < log.head + LONG and log.base >= sent and log.attempted_base >= attempted
      and (is_merged or log.head < log.cut)
    then
      return enter_at_head(log, i, at, is_merged, sent, attempted)
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

  -- Takes out events among the first `last` entries of an unchanged log, and changes the totals
  -- before them. Returns true.
  local function remove_at_head(log, last, cost_at)
    load(log, 1, last)
    local remaining, n = 0, 0
    for _, cost in pairs(cost_at) do
      remaining = remaining + cost
    end
    log.base, log.attempted_base = log.base + remaining, log.attempted_base + remaining
    for i = 1, last do
      remaining = remaining - (cost_at[i] or 0)
      local sent, attempted = log.sent_totals[i] + remaining, log.attempted_totals[i] + remaining
      if sent ~= total(log, n) or attempted ~= total(log, n, true) then
        n = n + 1
        log.times[n], log.sent_totals[n], log.attempted_totals[n] = log.times[i], sent, attempted
      end
    end
    forget_read(log, n + 1)
    log.head, log.cut, log.n = n, last, log.n - last + n
    log.from = log.n + 1
    log.last, log.oldest = time(log, log.n), time(log, 1)
    return true
  end

  -- Takes out events of this log; those that have left every window, were forgotten by a reset or
  -- were lost by the server are ignored. Returns whether any was there.
  local function remove(log, events)
    local cost_at, first, last = {}, nil, nil
    -- A few are most often among the latest; for many, all is read at once.
    local low = #events > 8 and 0 or max(0, log.n - 8)
    load(log, low + 1, min(log.n, log.from - 1))
    for _, event in ipairs(events) do
      local at = event.moment
      local is_recent = low > 0 and time(log, low + 1) < at
      local i = last_by(log, at - 1, is_recent and low + 1 or 0, log.n) + 1
      if event.generation == log.generation and i <= log.n and at > log.newest - log.span
        and floor(time(log, i) / log.slot) == floor(at / log.slot)
        and total(log, i) - total(log, i - 1) >= (cost_at[i] or 0) + event.cost
      then
        cost_at[i] = (cost_at[i] or 0) + event.cost
        first, last = min(first or i, i), max(last or i, i)
      end
    end
    if not first then
      return false
    end
    forget_full(log, time(log, first))
    if log.cut == 0 and log.from > log.n and last + LONG < log.n - first then
      return remove_at_head(log, last, cost_at)
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
    for _, name in ipairs({'times', 'sent_totals', 'attempted_totals'}) do
      new[name] = {}
      for i, value in pairs(log[name]) do
        new[name][i] = value
      end
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
    open = open, time = time, total = total, load = load, make_writable = make_writable,
    last_by = last_by, last_by_near_end = last_by_near_end, first_with = first_with,
    first_with_near_end = first_with_near_end, enter = enter, remove = remove, copy = copy,
  }
end
