-- The charges of one message, and what becomes of them by the logs: what
-- ratelimit_mail.backends.transaction does.

-- Returns how a cost is spread over time: parts, each with its offset in milliseconds. As early as
-- the windows that spread admit it, on empty counts. Nil if it is charged as a whole.
local function spread_schedule(cost, windows)
  local spreading = {}
  for _, window in ipairs(windows) do
    if window.spread and window.limit < cost then
      spreading[#spreading + 1] = {
        limit = window.limit, span = window.length + window.slot - 1, start = 1, held = 0,
      }
    end
  end
  if #spreading == 0 then
    return nil
  end
  local schedule, offset = {}, 0
  while true do
    local part = cost
    for _, window in ipairs(spreading) do
      while schedule[window.start] and schedule[window.start].offset + window.span <= offset do
        window.held = window.held - schedule[window.start].cost
        window.start = window.start + 1
      end
      part = math.min(part, window.limit - window.held)
    end
    if part > 0 then
      schedule[#schedule + 1] = {offset = offset, cost = part}
      cost = cost - part
      if cost == 0 then
        return schedule
      end
    end
    local next
    for _, window in ipairs(spreading) do
      window.held = window.held + math.max(part, 0)
      if schedule[window.start] then
        local leaves_at = schedule[window.start].offset + window.span
        next = math.min(next or leaves_at, leaves_at)
      end
    end
    offset = next
  end
end

-- Returns the charges of a packed message, and the charge of its queue; or nil and the number of a
-- key whose value is not a log. The keys of the logs are in KEYS from `first` on. `log` of a charge
-- is what decides: of unique recipients a copy without those that the message is to. `stored_log`
-- is what is charged. `is_settled`: whether nothing is decided.
local function read_charges(message, first, logs, is_settled)
  local flags, count = struct.unpack('<I2I4', message)
  local pos = HEADER_SIZE + 1
  local charges = {}
  for i = 1, count do
    local cost, smallest, span, slot, ceiling, denied, windows
    cost, smallest, span, slot, ceiling, denied, windows, pos = struct.unpack(CHARGE, message, pos)
    local log = logs.open(KEYS[first + i - 1], span, slot, ceiling)
    if not log then
      return nil, first + i - 1
    end
    charges[i] = {
      log = log, stored_log = log, cost = cost, smallest = smallest,
      counts_denied = denied % 2 > 0, windows = {},
    }
    local after = pos + windows * WINDOW_SIZE
    while pos < after do
      local window
      window, pos = read_window(message, pos)
      table.insert(charges[i].windows, window)
    end
    if denied >= 2 then
      local unique = unique_recipients(logs)
      if not unique.open(log) then
        return nil, number_of_key(members_key(log.key))
      end
      local digests = {}
      for m = 1, cost do
        digests[m] = message:sub(pos, pos + DIGEST_SIZE - 1)
        pos = pos + DIGEST_SIZE
      end
      charges[i].unique, charges[i].digests = unique, digests
      if not is_settled then
        charges[i].log = unique.read(log, digests)
      end
    end
    if cost > smallest then
      charges[i].schedule = spread_schedule(cost, charges[i].windows)
    end
  end
  if bit.band(flags, QUEUE) > 0 then
    return charges, table.remove(charges)
  end
  return charges
end

-- Returns the charges on copies of their logs, from which lists of events are taken out.
local function without(charges, lists, logs)
  local events_by_key = {}
  for _, charge in ipairs(charges) do
    events_by_key[charge.log.key] = {}
  end
  for _, events in ipairs(lists) do
    for _, event in ipairs(events) do
      local of_key = events_by_key[event.key]
      -- Those of unique recipients are left out already, because they are the latest of theirs.
      if of_key and not event.members then
        of_key[#of_key + 1] = event
      end
    end
  end
  local probes = {}
  for i, charge in ipairs(charges) do
    local probe = {}
    for name, value in pairs(charge) do
      probe[name] = value
    end
    probe.log = logs.copy(charge.log)
    logs.remove(probe.log, events_by_key[charge.log.key])
    probes[i] = probe
  end
  return probes
end

-- Returns the functions that decide on `charges` at the time `now`. A refusal is a list: the number
-- of the charge, the number of its window, the first moment with room, how much room there is.
local function transaction(charges, room, now)
  local self = {}

  local function earliest_in(charge, from, windows)
    if charge.schedule then
      return room.earliest_spread(charge.log, from, charge.schedule, windows)
    end
    local at = from
    for _, window in ipairs(windows) do
      at = room.earliest(charge.log, at, charge.cost, window)
    end
    return at
  end

  -- Returns the numbers of the charges and of their windows that have no room at `at`.
  function self.without_room(at)
    local numbers = {}
    for i, charge in ipairs(charges) do
      for w, window in ipairs(charge.windows) do
        if earliest_in(charge, at, {window}) > at then
          numbers[#numbers + 1] = {i, w}
        end
      end
    end
    return numbers
  end

  -- Returns the first moment, `from` or later, at which there is room in some windows, which are
  -- named by the numbers of their charges and their own.
  function self.earliest_in_windows(from, numbers)
    local at = from
    repeat
      local before = at
      for _, number in ipairs(numbers) do
        local charge = charges[number[1]]
        at = earliest_in(charge, at, {charge.windows[number[2]]})
      end
    until at == before
    return at
  end

  -- Returns the first moment, `from` or later, at which all charges fit.
  function self.earliest(from)
    local at = from
    repeat
      local before = at
      for _, charge in ipairs(charges) do
        at = earliest_in(charge, at, charge.windows)
      end
    until at == before
    return at
  end

  function self.refresh(refusal)
    local charge = charges[refusal[1] + 1]
    refusal[3] = earliest_in(charge, now, {charge.windows[refusal[2] + 1]})
  end

  -- Returns a refusal for each window without room. `names`: nil for all windows, or those that may
  -- lack room, by the numbers of the charge and the window.
  function self.refusals(names)
    local refusals = {}
    for i, charge in ipairs(charges) do
      for w, window in ipairs(charge.windows) do
        local is_named = not names or names[i .. ' ' .. w]
        local at = is_named and earliest_in(charge, now, {window}) or now
        if at > now then
          refusals[#refusals + 1] = {i - 1, w - 1, at, 0}
        end
      end
    end
    return refusals
  end

  -- Returns a refusal for the window with the least room, if only earlier bookings of the queue are
  -- in the way.
  function self.tightest(at)
    local least
    for i, charge in ipairs(charges) do
      for w, window in ipairs(charge.windows) do
        local remaining = room.remaining(charge.log, window)
        if not least or remaining < least[4] then
          least = {i - 1, w - 1, at, remaining}
        end
      end
    end
    return {least}
  end

  -- Charges everything at the moment `at`, and returns the events. The logs are not saved yet.
  function self.charge(at, change)
    local events = {}
    for i, charge in ipairs(charges) do
      local log = charge.stored_log
      local start = math.max(at, log.newest)
      if charge.unique then
        events[#events + 1] = charge.unique.charge(log, charge.digests, at, now, change)
        events[#events].charge = i - 1
      else
        for _, part in ipairs(charge.schedule or {{offset = 0, cost = charge.cost}}) do
          events[#events + 1] = {
            key = log.key, charge = i - 1, cost = part.cost,
            moment = change.book(log, start + part.offset, part.cost),
            generation = log.generation,
          }
        end
      end
    end
    return events
  end

  -- Saves the logs of the charges, and other logs that have changed.
  function self.save(change, others)
    local is_saved = {}
    for _, charge in ipairs(charges) do
      change.save(charge.stored_log)
      is_saved[charge.stored_log] = true
    end
    for _, log in ipairs(others or {}) do
      if not is_saved[log] then
        change.save(log)
        is_saved[log] = true
      end
    end
  end

  return self
end
