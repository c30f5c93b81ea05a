-- Open and search the logs of counts: what ratelimit_mail.counting.event_log does, on lists.

-- Returns the functions that open and search logs.
local function event_logs()
  local ceil, max = math.ceil, math.max
  local call = redis.call

  local function common_divisor(a, b)
    while b > 0 do
      a, b = b, a % b
    end
    return a
  end

  -- Returns the log at `key`, or nil if the value there is not a log. `span`, `slot`, `ceiling`:
  -- what the current policy needs retained; what other policies need is retained as well.
  local function open(key, span, slot, ceiling)
    local state, is_foreign = fetch('LINDEX', key, -1)
    if is_foreign or state and not is_state(state) then
      return nil
    end
    local _, generation, n, newest, last, oldest = nil, 0, 0, LONG_AGO, LONG_AGO, LONG_AGO
    local base, sent, attempted_base, attempted, compact_at, expires = 0, 0, 0, 0, 64, LONG_AGO
    if not state then
      must_expire(key)
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
    return {
      key = key, times = {}, sent_totals = {}, attempted_totals = {}, trim = 0, stored = n,
      from = n + 1, stored_oldest = oldest, stored_base = base,
      stored_attempted_base = attempted_base, generation = generation, n = n, newest = newest,
      last = last, oldest = oldest, base = base, sent = sent, attempted_base = attempted_base,
      attempted = attempted, compact_at = compact_at, span = span, slot = slot, ceiling = ceiling,
      expires = expires,
    }
  end

  local function read(log, i, entry)
    log.times[i], log.sent_totals[i], log.attempted_totals[i] =
      read_entry(entry, log.stored_oldest, log.stored_base, log.stored_attempted_base)
  end

  local function time(log, i)
    if not log.times[i] then
      read(log, i, call('LINDEX', log.key, i - 1))
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
      for i, entry in ipairs(call('LRANGE', log.key, first - 1, last - 1)) do
        read(log, first + i - 1, entry)
      end
    end
  end

  -- Loads the entries from `first` on, so that they can be changed and are stored again.
  local function make_writable(log, first)
    if first < log.from then
      load(log, first, log.from - 1)
      log.from = first
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

  -- Returns the first entry from `low` to `high` with a total of at least `target`, which `high`
  -- has.
  local function first_with(log, target, low, high, denied)
    local function total_at(i)
      return total(log, i, denied)
    end
    return first_with_total(total_at, target, low, high, total_at(low - 1), total_at(high))
  end

  return {
    open = open, time = time, total = total, load = load, make_writable = make_writable,
    last_by = last_by, first_with = first_with,
  }
end
