-- What fits: when there is room in a log, and how much, bookings respected.

-- The functions that tell what logs hold and when something fits, at the time `now`.
local function rooms(lib, now)
  local floor, max, min = math.floor, math.max, math.min
  local time, total, load, upto, first_with = lib.time, lib.total, lib.load, lib.upto, lib.first_with

  local function cutoff(window, moment)
    return floor((moment - window.length + 1) / window.slot) * window.slot - 1
  end

  local function left_at(window, event)
    return expiry(event, window.length, window.slot)
  end

  -- Visits the windows that hold `at` and end at a booking after it, the last first, with what each
  -- holds and that booking's time, until `visit` gives true. None where all together hold no more
  -- than `room`.
  local function visit_windows(log, at, past, first, room, window, visit)
    local last = upto(log, left_at(window, at) - 1, past, log.n)
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
        local gone = first_with(log, total(log, past, asked) - room, first + 1, past, asked)
        at = left_at(window, time(log, gone))
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
    local free_at = left_at(window, time(log, first_with(log, target, 1, log.n, asked)))
    return free_at > at and free_at or moment
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
    local last = first_with(log, total(log, log.n, asked), 1, log.n, asked)
    return max(0, left_at(window, time(log, last)) - now)
  end

  return {earliest = earliest, used = used, remaining = remaining, empty_in = empty_in}
end
