-- When a log has room and for how much, bookings respected.

-- Returns the functions that answer this at the time `now`.
local function availability(logs, now)
  local max, min = math.max, math.min
  local time, total, load, last_by, first_with =
    logs.time, logs.total, logs.load, logs.last_by, logs.first_with
  local last_by_near_end, first_with_near_end = logs.last_by_near_end, logs.first_with_near_end
  local copy, enter = logs.copy, logs.enter

  local CHUNK = 128 -- so many entries are read at once where one after another is needed

  -- Returns the last entry from `low` on that is not later than `at`, which is most often near `low`.
  local function last_by_near(log, at, low)
    local step, high = 1, low
    while high < log.n do
      high = min(low + step, log.n)
      if time(log, high) > at then
        return last_by(log, at, low, high - 1)
      end
      low, step = high, 2 * step
    end
    return low
  end

  -- Calls `visit` for the windows that contain `at` and end at a later booking, the last window
  -- first, with what the window holds and the time of that booking, if it may hold more than `room`.
  -- `visit` returns the room for the windows before; nil if they do not matter.
  local function visit_windows(log, at, past, first, room, window, visit)
    local i = last_by_near(log, leaves_at(window, at) - 1, past)
    local denied = window.denied
    local start, steps
    while i > past do
      local total_by_then = total(log, i, denied)
      if total_by_then - total(log, first, denied) <= room then -- and so in all before
        return
      end
      local outside = cutoff(window, time(log, i))
      if start then
        start = last_by_near_end(log, outside, first, min(start, i - 1))
      else
        start, steps = last_by(log, outside, first, i - 1), 0
      end
      room = visit(total_by_then - total(log, start, denied), time(log, i))
      if not room or total(log, first, denied) >= total_by_then - room then
        return
      end
      -- A window that ends no later, and begins behind this entry, holds no more than `room`.
      local begin = first_with_near_end(log, total_by_then - room, first + 1, start, denied)
      i = last_by_near_end(log, leaves_at(window, time(log, begin)) - 1, past, i - 1)
      steps = steps + 1
      if steps % CHUNK == 8 then
        load(log, max(first + 1, i - CHUNK), min(i, log.from - 1))
        load(log, max(first + 1, start - CHUNK), min(start, log.from - 1))
      end
    end
  end

  -- Returns the last booking after `at` whose window contains `at` and would have no room.
  local function last_overfull(log, at, past, first, room, window)
    local overfull
    visit_windows(log, at, past, first, room, window, function(used, booked_at)
      overfull = used > room and booked_at or nil
      return not overfull and room
    end)
    return overfull
  end

  local function earliest_among_bookings(log, moment, present, room, window)
    local at, denied = present, window.denied
    local past, first, steps = last_by(log, at, 0, log.n), 0, 0
    local key = full_key(window, room)
    local known = log.full and log.full[key]
    while true do
      if known and known.since <= at and at < known.before then
        at = known.before
        past = last_by(log, at, past, log.n)
      end
      steps = steps + 1
      if steps > 8 and past < log.n and not log.times[past + 1] then
        load(log, past + 1, min(past + CHUNK, log.from - 1))
      end
      past = last_by_near(log, at, past)
      first = last_by(log, cutoff(window, at), first, past)
      local is_full = total(log, past, denied) - total(log, first, denied) > room
      -- A long search looks further than to the next event that leaves: later windows may be full too.
      local overfull = (not is_full or steps > 4) and last_overfull(log, at, past, first, room, window)
      if overfull then
        at = overfull + 1
      elseif is_full then
        local leaving = first_with(log, total(log, past, denied) - room, first + 1, past, denied)
        at = leaves_at(window, time(log, leaving))
      else
        break
      end
    end
    if key and at > present then
      add_full(log, key, present, at)
      log.has_new_full = log.has_new_full or steps > 8 -- worth storing
    end
    return at == present and moment or at
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
    if free_at <= at then
      return moment
    end
    local key = log.last > now and full_key(window, room)
    if key then -- behind the last booking, where the next one begins
      add_full(log, key, at, free_at)
    end
    return free_at
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
        return most
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
