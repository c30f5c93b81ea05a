-- A log as it is opened and searched.

-- The functions that open and search logs.
local function logs()
  local ceil, max = math.ceil, math.max
  local call = redis.call

  local function common_divisor(a, b)
    while b > 0 do
      a, b = b, a % b
    end
    return a
  end

  -- The log at `key`, or nil where something stands that is none. `span`, `slot`, `ceiling`:
  -- what the policy at hand needs kept; what others need is kept as well.
  local function open(key, span, slot, ceiling)
    local state, is_foreign = fetch('LINDEX', key, -1)
    if is_foreign or state and not is_state(state) then
      return nil
    end
    local _, generation, n, newest, last, oldest = nil, 0, 0, LONG_AGO, LONG_AGO, LONG_AGO
    local base, sent, asked_base, asked, compact_at, expires = 0, 0, 0, 0, 64, LONG_AGO
    if not state then
      must_expire(key)
    else
      local kept, kept_slot, kept_ceiling
      _, generation, n, newest, last, oldest, base, sent, asked_base, asked, compact_at, kept,
        kept_slot, kept_ceiling, expires = struct.unpack(STATE, state)
      if span then
        span, ceiling = max(kept, span), max(kept_ceiling, ceiling)
        slot = common_divisor(kept_slot, slot)
      else
        span, slot, ceiling = kept, kept_slot, kept_ceiling
      end
    end
    return {
      key = key, t = {}, s = {}, a = {}, trim = 0, stored = n, from = n + 1,
      stored_oldest = oldest, stored_base = base, stored_asked_base = asked_base,
      generation = generation, n = n, newest = newest, last = last, oldest = oldest,
      base = base, sent = sent, asked_base = asked_base, asked = asked, compact_at = compact_at,
      span = span, slot = slot, ceiling = ceiling, expires = expires,
    }
  end

  local function read(log, i, entry)
    log.t[i], log.s[i], log.a[i] =
      read_entry(entry, log.stored_oldest, log.stored_base, log.stored_asked_base)
  end

  local function time(log, i)
    if not log.t[i] then
      read(log, i, call('LINDEX', log.key, i - 1))
    end
    return log.t[i]
  end

  -- What was sent, or asked for, up to entry `i`.
  local function total(log, i, asked)
    if i == 0 then
      return asked and log.asked_base or log.base
    end
    if not log.t[i] then
      time(log, i)
    end
    return asked and log.a[i] or log.s[i]
  end

  local function load(log, first, last)
    while first <= last and log.t[first] do
      first = first + 1
    end
    while first <= last and log.t[last] do
      last = last - 1
    end
    if first <= last then
      for i, entry in ipairs(call('LRANGE', log.key, first - 1, last - 1)) do
        read(log, first + i - 1, entry)
      end
    end
  end

  -- Make the entries from `first` on ready to be changed.
  local function own(log, first)
    if first < log.from then
      load(log, first, log.from - 1)
      log.from = first
    end
  end

  -- The last of `low` to `high` that stands no later than `at`; `low` is taken for one.
  local function upto(log, at, low, high)
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

  -- The first of `low` to `high` with a total of `target` or more, as `high` has.
  local function first_with(log, target, low, high, asked)
    local function total_of(i)
      return total(log, i, asked)
    end
    return reaching(total_of, target, low, high, total_of(low - 1), total_of(high))
  end

  return {
    open = open, time = time, total = total, load = load, own = own, upto = upto,
    first_with = first_with,
  }
end
