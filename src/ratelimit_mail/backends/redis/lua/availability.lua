-- When a log has room and for how much, bookings respected.

-- Returns the functions that answer this at the time `now`.
local function availability(logs, now)
  local floor, max, min = math.floor, math.max, math.min
  local time, total, load, last_by, first_with =
    logs.time, logs.total, logs.load, logs.last_by, logs.first_with
  local copy, enter = logs.copy, logs.enter

  local function cutoff(window, moment)
    return floor((moment - window.length + 1) / window.slot) * window.slot - 1
  end

  local function leaves_at(window, event)
    return expiry(event, window.length, window.slot)
  end

  -- Calls `visit` for the windows that contain `at` and end at a later booking, the last window
  -- first, with what the window holds and the time of that booking, until `visit` returns true.
  -- Calls it for no window if all of them together hold no more than `room`.
  local function visit_windows(log, at, past, first, room, window, visit)
    local last = last_by(log, leaves_at(window, at) - 1, past, log.n)
    local denied = window.denied
    if last == past or total(log, last, denied) - total(log, first, denied) <= room then
      return
    end
    load(log, first + 1, min(last, log.from - 1))
    local start = last
    for i = last, past + 1, -1 do
      local outside = cutoff(window, time(log, i))
      start = min(start, i - 1)
      while start > first and time(log, start) > outside do
        start = start - 1
      end
      if visit(total(log, i, denied) - total(log, start, denied), time(log, i)) then
        return
      end
    end
  end

  -- Returns the last booking after `at` whose window contains `at` and would have no room.
  local function last_overfull(log, at, past, first, room, window)
    local overfull
    visit_windows(log, at, past, first, room, window, function(used, booked_at)
      overfull = used > room and booked_at or nil
      return overfull
    end)
    return overfull
  end

  local function earliest_among_bookings(log, moment, present, room, window)
    local at, denied = present, window.denied
    while true do
      local past = last_by(log, at, 0, log.n)
      local first = last_by(log, cutoff(window, at), 0, past)
      if total(log, past, denied) - total(log, first, denied) > room then
        local leaving = first_with(log, total(log, past, denied) - room, first + 1, past, denied)
        at = leaves_at(window, time(log, leaving))
      else
        local overfull = last_overfull(log, at, past, first, room, window)
        if not overfull then
          return at == present and moment or at
        end
        at = overfull + 1
      end
    end
  end

  -- Returns the first moment, `moment` or later, at which `cost`, at most the limit, fits.
  local function earliest(log, moment, cost, window)
    local room = window.limit - cost
    if log.attempted - log.attempted_base <= room then -- whatever its times
      return moment
    end
    local at = max(moment, log.newest)
    if log.last > at then
      return earliest_among_bookings(log, moment, at, room, window)
    end
    -- The oldest entries up to this total must leave; often that is only the first.
    local denied = window.denied
    local target = (denied and log.attempted or log.sent) - room
    if total(log, 0, denied) >= target then
      return moment
    end
    local free_at = leaves_at(window, time(log, first_with(log, target, 1, log.n, denied)))
    return free_at > at and free_at or moment
  end

  -- Returns the first moment, `moment` or later, at which each part of a spread cost fits into
  -- each of `windows` at its own time.
  local function earliest_spread(log, moment, schedule, windows)
    local present = max(moment, log.newest)
    local at = present
    while true do
      local probe, late = copy(log), nil
      for _, part in ipairs(schedule) do
        local part_at = at + part.offset
        local fits_at = part_at
        for _, window in ipairs(windows) do
          fits_at = earliest(probe, fits_at, part.cost, window)
        end
        if fits_at > part_at then
          late = fits_at - part.offset
          break
        end
        enter(probe, part_at, LONG_AGO, part.cost, part.cost)
      end
      if not late then
        return at == present and moment or at
      end
      at = late
    end
  end

  local function used(log, window)
    local at = max(now, log.newest)
    local past = last_by(log, at, 0, log.n)
    local first = last_by(log, cutoff(window, at), 0, past)
    return total(log, past, window.denied) - total(log, first, window.denied)
  end

  -- Returns the most that would fit now, bookings respected.
  local function remaining(log, window)
    local most, at = used(log, window), max(now, log.newest)
    if log.last > at then
      local past = last_by(log, at, 0, log.n)
      local first = last_by(log, cutoff(window, at), 0, past)
      visit_windows(log, at, past, first, most, window, function(used_then)
        most = max(most, used_then)
      end)
    end
    return max(0, window.limit - most)
  end

  -- Returns the milliseconds until nothing recorded counts any more.
  local function empty_in(log, window)
    local denied = window.denied
    if log.n == 0 or total(log, log.n, denied) == total(log, 0, denied) then
      return 0
    end
    local last = first_with(log, total(log, log.n, denied), 1, log.n, denied)
    return max(0, leaves_at(window, time(log, last)) - now)
  end

  return {
    earliest = earliest, earliest_spread = earliest_spread, used = used, remaining = remaining,
    empty_in = empty_in,
  }
end
