-- Decide on the charges of one message, log by log: what ratelimit_mail.backends.memory.transaction
-- does.

-- Returns the charges of a packed message and the charge of its queue; or nil and the number of a
-- key whose value is not a log.
local function read_charges(message, first, logs)
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
      log = log, cost = cost, smallest = smallest, counts_denied = denied > 0, windows = {},
    }
    for w = 1, windows do
      local limit, length, window_slot, counts
      limit, length, window_slot, counts, pos = struct.unpack(WINDOW, message, pos)
      charges[i].windows[w] =
        {limit = limit, length = length, slot = window_slot, denied = counts > 0}
    end
  end
  if bit.band(flags, QUEUE) > 0 then
    return charges, table.remove(charges)
  end
  return charges
end

-- Decides on the message whose logs are in KEYS from `first` on. Returns a list: the time; the first
-- moment with room; 1 if the message was charged; the token of its id; the number of refusals; for
-- each refusal the number of the charge, the number of its window, the first moment with room, and
-- how much room there is; the moments of the charges; the generations of their logs.
-- Or -1, and the number of a key whose value was not stored by this library.
local function decide(message, first, now, grace)
  local logs = event_logs()
  local room, change = availability(logs, now), mutations(logs, now, grace)
  local flags, count, _, max_delay, start, lifetime, token = struct.unpack(HEADER, message)
  local function has(flag)
    return bit.band(flags, flag) > 0
  end
  local charges, queue = read_charges(message, first, logs)
  if not charges then
    return {-1, queue}
  end
  local id = has(IDEMPOTENT) and KEYS[first + count]
  if id then
    local valid_until, answer = read_answer(id)
    if valid_until == false then
      return {-1, first + count}
    elseif valid_until and now < valid_until then
      answer[1] = now
      return answer
    end
  end

  -- Returns the reply, and stores it as the answer to the id.
  local function reply(at, recorded, refusals, moments)
    local answer = {now, at, recorded, id and token or 0, #refusals}
    for _, refusal in ipairs(refusals) do
      for i = 1, 4 do
        answer[#answer + 1] = refusal[i]
      end
    end
    for _, moment in ipairs(moments) do
      answer[#answer + 1] = moment
    end
    if id then
      local valid = lifetime
      if #refusals > 0 then -- no longer than until the message may fit
        valid = math.min(valid, at - now)
      end
      store_answer(id, now + valid, answer, valid + grace)
    end
    return answer
  end

  local function earliest(from)
    local at = from
    repeat
      local before = at
      for _, charge in ipairs(charges) do
        for _, window in ipairs(charge.windows) do
          at = room.earliest(charge.log, at, charge.cost, window)
        end
      end
    until at == before
    return at
  end

  local function save_refused()
    for _, charge in ipairs(charges) do
      if charge.counts_denied then
        change.save(charge.log)
      end
    end
  end

  local function count_refused()
    local counted = false
    for _, charge in ipairs(charges) do
      if charge.counts_denied then
        change.refuse(charge.log, charge.cost)
        counted = true
      end
    end
    return counted
  end

  -- Returns a refusal for each window without room.
  local function find_refusals()
    local refusals = {}
    for i, charge in ipairs(charges) do
      for w, window in ipairs(charge.windows) do
        local at = room.earliest(charge.log, now, charge.cost, window)
        if at > now then
          refusals[#refusals + 1] = {i - 1, w - 1, at, 0}
        end
      end
    end
    return refusals
  end

  -- Returns a refusal for the window with the least room, if only earlier bookings of the queue are
  -- in the way.
  local function tightest(at)
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

  local function refuse(refusals, from)
    local counted = has(RECORD) and not has(DENIALS_UNCOUNTED) and count_refused()
    local at = from
    for _, refusal in ipairs(refusals) do
      if counted then
        local charge = charges[refusal[1] + 1]
        local window = charge.windows[refusal[2] + 1]
        refusal[3] = room.earliest(charge.log, now, charge.cost, window)
      end
      at = math.max(at, refusal[3])
    end
    at = earliest(at)
    if counted then
      save_refused()
    end
    return reply(at, 0, refusals, {})
  end

  local function charge_all(at)
    local moments, generations = {}, {}
    if queue and at > now then
      charges[#charges + 1] = queue
    end
    for i, charge in ipairs(charges) do
      moments[i] = change.book(charge.log, at, charge.cost)
      generations[i] = charge.log.generation
      change.save(charge.log)
    end
    for _, generation in ipairs(generations) do
      moments[#moments + 1] = generation
    end
    return reply(at, 1, {}, moments)
  end

  if has(REFUSED) then
    count_refused()
    save_refused()
    return reply(now, 0, {}, {})
  end
  if has(LEAST_REMAINING) then
    local least = tightest(now)
    return reply(least[1] and least[1][4] or 0, 0, least, {})
  end
  local from = math.max(now, start)
  if queue and queue.log.last > now then
    from = math.max(from, queue.log.last)
  end
  if has(BOOK) then
    local at = earliest(from)
    if (max_delay >= 0 and at - now > max_delay)
      or (has(AT_START_ONLY) and at > math.max(now, start))
    then
      local refusals = find_refusals()
      return refuse(#refusals > 0 and refusals or tightest(at), from)
    end
    return charge_all(at)
  end
  local refusals = find_refusals()
  if #refusals > 0 then
    return refuse(refusals, from)
  end
  if has(RECORD) then
    return charge_all(now)
  end
  return reply(from == now and now or earliest(from), 0, {}, {})
end
