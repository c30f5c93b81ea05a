-- A log as it is opened and searched.

-- The functions that open and search logs.
local function logs()
  local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
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
    local log = {key = key, t = {}, s = {}, a = {}, trim = 0}
    if not state then
      must_expire(key)
      log.n, log.newest, log.last, log.oldest = 0, LONG_AGO, LONG_AGO, LONG_AGO
      log.base, log.sent, log.asked_base, log.asked = 0, 0, 0, 0
      log.compact_at, log.expires = 64, LONG_AGO
      log.span, log.slot, log.ceiling, log.generation = span, slot, ceiling, 0
    else
      local _
      _, log.generation, log.n, log.newest, log.last, log.oldest, log.base, log.sent,
        log.asked_base, log.asked, log.compact_at, log.span, log.slot, log.ceiling, log.expires
        = struct.unpack(STATE, state)
      if span then
        log.span, log.ceiling = max(log.span, span), max(log.ceiling, ceiling)
        log.slot = common_divisor(log.slot, slot)
      end
    end
    log.stored, log.from = log.n, log.n + 1
    return log
  end

  local function read(log, i, entry)
    local t, s, a = struct.unpack(#entry == ENTRY_SIZE and ENTRY or ENTRY_ASKED, entry)
    log.t[i], log.s[i], log.a[i] = t, s, #entry == ENTRY_SIZE and s or a
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
  local function reaching(log, target, low, high, asked)
    local tries = 0
    while low < high do
      local guess = floor((low + high) / 2)
      if tries < 6 then -- most messages cost about the same
        local before, after = total(log, low - 1, asked), total(log, high, asked)
        guess = low - 1 + ceil((target - before) / (after - before) * (high - low + 1))
        guess = max(low, min(high - 1, guess))
        tries = tries + 1
      end
      if total(log, guess, asked) >= target then
        high = guess
      else
        low = guess + 1
      end
    end
    return low
  end

  return {
    open = open, time = time, total = total, load = load, own = own, upto = upto,
    reaching = reaching,
  }
end
