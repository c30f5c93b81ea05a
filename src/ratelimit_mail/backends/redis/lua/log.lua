-- The log of one count: what ratelimit_mail.log does, on a list.
--
-- The list holds the entries, oldest first, and behind them its state. An entry is a moment and
-- the running totals after it: what was sent, and, where that is more, what was asked for,
-- refused attempts included. Entry 0 is what has been forgotten. The generation of a log goes up when
-- it is reset, so that what was charged before cannot be taken out of it afterwards.

local ENTRY, ENTRY_ASKED, ENTRY_SIZE = '<i7I6', '<i7I6I6', 13
local STATE, STATE_SIZE, MARK = '<BI2I4i7i7i7I6I6I6I6I4I6I6I6i7', 81, 167
local LONG_AGO = -18014398509481984

local function is_state(value)
  return type(value) == 'string' and #value == STATE_SIZE and value:byte() == MARK
end

-- The functions that read and change logs; `grace`: milliseconds that a key outlives its use.
local function logs(now, grace)
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
    local state = redis.pcall('LINDEX', key, -1)
    local log = {key = key, t = {}, s = {}, a = {}, trim = 0}
    if not state then
      log.n, log.newest, log.last, log.oldest = 0, LONG_AGO, LONG_AGO, LONG_AGO
      log.base, log.sent, log.asked_base, log.asked = 0, 0, 0, 0
      log.compact_at, log.expires = 64, LONG_AGO
      log.span, log.slot, log.ceiling, log.generation = span, slot, ceiling, 0
    elseif is_state(state) then
      local _
      _, log.generation, log.n, log.newest, log.last, log.oldest, log.base, log.sent, log.asked_base, log.asked,
        log.compact_at, log.span, log.slot, log.ceiling, log.expires = struct.unpack(STATE, state)
      if span then
        log.span, log.ceiling = max(log.span, span), max(log.ceiling, ceiling)
        log.slot = common_divisor(log.slot, slot)
      end
    else
      return nil
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

  local function cutoff(window, moment)
    return floor((moment - window.length + 1) / window.slot) * window.slot - 1
  end

  local function expiry(window, event)
    return floor(event / window.slot) * window.slot + window.slot - 1 + window.length
  end

  -- Visits the windows that hold `at` and end at a booking after it, the last first, with what each
  -- holds and that booking's time, until `visit` gives true. None where all together hold no more than `room`.
  local function visit_windows(log, at, past, first, room, window, visit)
    local last = upto(log, expiry(window, at) - 1, past, log.n)
    local asked = window.denied
    if last == past or total(log, last, asked) - total(log, first, asked) <= room then
      return
    end
    load(log, first + 1, min(last, log.from - 1))
    local start = last
    for i = last, past + 1, -1 do
      local gone = cutoff(window, time(log, i))
      start = min(start, i - 1)
      while start > first and time(log, start) > gone do
        start = start - 1
      end
      if visit(total(log, i, asked) - total(log, start, asked), time(log, i)) then
        return
      end
    end
  end

  -- The last booking after `at` whose window holds `at` and would have no room.
  local function last_overfull(log, at, past, first, room, window)
    local found
    visit_windows(log, at, past, first, room, window, function(held, booked_at)
      found = held > room and booked_at or nil
      return found
    end)
    return found
  end

  local function earliest_among_bookings(log, moment, present, room, window)
    local at, asked = present, window.denied
    while true do
      local past = upto(log, at, 0, log.n)
      local first = upto(log, cutoff(window, at), 0, past)
      if total(log, past, asked) - total(log, first, asked) > room then
        local gone = reaching(log, total(log, past, asked) - room, first + 1, past, asked)
        at = expiry(window, time(log, gone))
      else
        local overfull = last_overfull(log, at, past, first, room, window)
        if not overfull then
          return at == present and moment or at
        end
        at = overfull + 1
      end
    end
  end

  -- The first moment, `moment` or later, at which `cost` more fit; `cost` at most the limit.
  local function earliest(log, moment, cost, window)
    local room = window.limit - cost
    if log.asked - log.asked_base <= room then -- whatever its times
      return moment
    end
    local at = max(moment, log.newest)
    if log.last > at then
      return earliest_among_bookings(log, moment, at, room, window)
    end
    -- So much of the oldest must have left; often it is the very first.
    local asked = window.denied
    local target = (asked and log.asked or log.sent) - room
    if total(log, 0, asked) >= target then
      return moment
    end
    local left_at = expiry(window, time(log, reaching(log, target, 1, log.n, asked)))
    return left_at > at and left_at or moment
  end

  local function used(log, window)
    local at = max(now, log.newest)
    local past = upto(log, at, 0, log.n)
    local first = upto(log, cutoff(window, at), 0, past)
    return total(log, past, window.denied) - total(log, first, window.denied)
  end

  -- The most that would fit now, bookings respected.
  local function remaining(log, window)
    local most, at = used(log, window), max(now, log.newest)
    if log.last > at then
      local past = upto(log, at, 0, log.n)
      local first = upto(log, cutoff(window, at), 0, past)
      visit_windows(log, at, past, first, most, window, function(held)
        most = max(most, held)
      end)
    end
    return max(0, window.limit - most)
  end

  -- Milliseconds until nothing recorded counts any more.
  local function empty_in(log, window)
    local asked = window.denied
    if log.n == 0 or total(log, log.n, asked) == total(log, 0, asked) then
      return 0
    end
    local last = reaching(log, total(log, log.n, asked), 1, log.n, asked)
    return max(0, expiry(window, time(log, last)) - now)
  end

  -- Let go of what has left every window by `present`, and let time not fall back to it.
  local function forget(log, present)
    if log.n > 0 and log.oldest <= present - log.span then
      log.trim = upto(log, present - log.span, 0, log.n)
      log.newest = max(log.newest, time(log, log.trim) + log.span)
    end
  end

  -- Keep as one what no window can tell apart, so that memory stays bounded: what stands in one
  -- slot, and refused attempts so old that those after them fill the largest limit.
  local function compact(log, present)
    own(log, 1)
    local past = upto(log, present, 0, log.n)
    local refused = total(log, past, true) - total(log, past)
    local t, s, a, kept = {}, {}, {}, 0
    local base, asked_base = total(log, log.trim), total(log, log.trim, true)
    for i = log.trim + 1, log.n do
      local merged, outweighed = false, false
      if i <= past then
        merged = kept > 0 and floor(t[kept] / log.slot) == floor(log.t[i] / log.slot)
        outweighed = log.s[i] == total(log, i - 1)
          and refused - (log.a[i] - log.s[i]) >= log.ceiling
      end
      if not merged and not outweighed then
        kept = kept + 1
      end
      if kept == 0 then
        base, asked_base = log.s[i], log.a[i]
      else
        t[kept] = not merged and outweighed and t[kept] or log.t[i]
        s[kept], a[kept] = log.s[i], log.a[i]
      end
    end
    if past > 0 then
      log.newest = max(log.newest, log.t[past])
    end
    log.t, log.s, log.a, log.n, log.trim = t, s, a, kept, 0
    log.base, log.asked_base = base, asked_base
    log.oldest, log.last = t[1] or LONG_AGO, t[kept] or LONG_AGO
  end

  -- Put an event into its place in time, before whatever is booked after it.
  local function enter(log, at, present, sent, asked)
    local i = log.last <= at and log.n or upto(log, at, 0, log.n)
    local last = i > log.trim and time(log, i)
    if last and (last == at or at <= present and floor(last / log.slot) == floor(at / log.slot))
    then
      own(log, i)
      log.t[i] = at
      i = i - 1
    else
      own(log, i + 1)
      for j = log.n, i + 1, -1 do
        log.t[j + 1], log.s[j + 1], log.a[j + 1] = log.t[j], log.s[j], log.a[j]
      end
      log.t[i + 1], log.s[i + 1], log.a[i + 1] = at, total(log, i), total(log, i, true)
      log.n = log.n + 1
    end
    for j = i + 1, log.n do
      log.s[j], log.a[j] = log.s[j] + sent, log.a[j] + asked
    end
    log.sent, log.asked = log.sent + sent, log.asked + asked
    log.last = max(log.last, at)
    log.oldest = i == 0 and at or log.oldest
    forget(log, present)
    if log.n >= log.compact_at then
      if log.slot > 1 or log.ceiling > 0 then
        compact(log, present)
      end
      log.compact_at = 2 * log.n + 64
    end
  end

  -- Record what is sent now, or will be at `at`; gives the moment at which it stands.
  local function book(log, at, cost)
    local present = max(now, log.newest)
    if at <= present then
      log.newest, at = present, present
    end
    enter(log, at, present, cost, cost)
    return at
  end

  -- Record what was asked for and refused now.
  local function refuse(log, cost)
    log.newest = max(now, log.newest)
    enter(log, log.newest, log.newest, 0, cost)
  end

  -- Take out what stands at `at`; false where it has left.
  local function take_out(log, at, cost)
    local i = upto(log, at - 1, 0, log.n) + 1
    if i > log.n or at <= log.newest - log.span
      or floor(time(log, i) / log.slot) ~= floor(at / log.slot)
    then
      return false
    end
    own(log, i)
    local kept, n = i - 1, log.n
    for j = i, n do
      local s, a = log.s[j] - cost, log.a[j] - cost
      if s ~= total(log, kept) or a ~= total(log, kept, true) then
        kept = kept + 1
        log.t[kept], log.s[kept], log.a[kept] = log.t[j], s, a
      end
    end
    log.n, log.sent, log.asked = kept, log.sent - cost, log.asked - cost
    return true
  end

  local function save(log)
    local first = log.from
    local written = {}
    for i = first, log.n do
      local t, s, a = log.t[i], log.s[i], log.a[i]
      if s == a then
        written[#written + 1] = struct.pack(ENTRY, t, s)
      else
        written[#written + 1] = struct.pack(ENTRY_ASKED, t, s, a)
      end
    end
    local n = log.n - log.trim
    local last = n > 0 and time(log, log.n) or LONG_AGO
    local oldest = n > 0 and time(log, log.trim + 1) or LONG_AGO
    if log.trim > 0 then
      log.base, log.asked_base = total(log, log.trim), total(log, log.trim, true)
    end
    local needed, is_new = max(log.newest, last) + log.span, log.expires == LONG_AGO
    local renewed = needed > log.expires
    if renewed then
      log.expires = needed + floor(log.span / 8)
    end
    written[#written + 1] = struct.pack(STATE, MARK, log.generation, n, log.newest, last, oldest, log.base,
      log.sent, log.asked_base, log.asked, log.compact_at, log.span, log.slot, log.ceiling,
      log.expires)
    local next = 1
    if not is_new then -- something of it always stays, or the key would lose its expiry
      if first <= log.stored then
        call('LTRIM', log.key, 0, first - 1)
      end
      call('LSET', log.key, -1, written[1])
      next = 2
    end
    for i = next, #written, 1000 do
      call('RPUSH', log.key, unpack(written, i, min(i + 999, #written)))
    end
    if log.trim > 0 then
      call('LTRIM', log.key, log.trim, -1)
    end
    if renewed then
      call('PEXPIRE', log.key, log.expires - now + grace)
    end
  end

  -- Forget everything; the key stays until what it held could not matter any more.
  local function reset(log)
    log.n, log.trim, log.from = 0, 0, 1
    log.newest, log.base, log.sent, log.asked_base, log.asked = LONG_AGO, 0, 0, 0, 0
    log.compact_at, log.generation = 64, (log.generation + 1) % 65536
    save(log)
  end

  return {
    reset = reset, open = open, earliest = earliest, remaining = remaining, used = used, empty_in = empty_in,
    book = book, refuse = refuse, take_out = take_out, save = save,
  }
end
