-- The ruling on one message's charges, log by log: what ratelimit_mail.backends.memory.transaction does.

-- The charges of a packed message and the queue that it stands in, or the number of a key where
-- something stands that is no log.
local function charges_of(message, first, lib)
  local mode, count = struct.unpack('<I2I4', message)
  local pos = HEADER_SIZE + 1
  local charges = {}
  for i = 1, count do
    local cost, smallest, span, slot, ceiling, denied, windows
    cost, smallest, span, slot, ceiling, denied, windows, pos = struct.unpack(CHARGE, message, pos)
    local log = lib.open(KEYS[first + i - 1], span, slot, ceiling)
    if not log then
      return nil, first + i - 1
    end
    charges[i] = {
      log = log, cost = cost, smallest = smallest, counts_denied = denied > 0, windows = {},
    }
    for w = 1, windows do
      local limit, length, slot_of, counts
      limit, length, slot_of, counts, pos = struct.unpack(WINDOW, message, pos)
      charges[i].windows[w] = {limit = limit, length = length, slot = slot_of, denied = counts > 0}
    end
  end
  if bit.band(mode, LINE) > 0 then
    return charges, table.remove(charges)
  end
  return charges
end

-- Rules on the message whose logs stand in KEYS from `first` on. Gives the time; the first moment
-- with room; 1 where it was charged; the token of its id; the number of windows without room, and
-- for each of those the number of its charge, its own, the first moment with room, and how
-- much there is; the moments at which the charges stand; the generations of their logs.
-- Or -1, and the number of a key where something stands that is not ours.
local function careful(message, first, now, grace)
  local lib = logs()
  local room, change = rooms(lib, now), changes(lib, now, grace)
  local mode, count, _, patience, start, lifetime, token = struct.unpack(HEADER, message)
  local function has(flag)
    return bit.band(mode, flag) > 0
  end
  local charges, queue = charges_of(message, first, lib)
  if not charges then
    return {-1, queue}
  end
  local id = has(ONCE) and KEYS[first + count]
  if id then
    local valid_until, told = read_answer(id)
    if valid_until == false then
      return {-1, first + count}
    elseif valid_until and now < valid_until then
      told[1] = now
      return told
    end
  end

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
      if #refusals > 0 then -- until it is worth asking again
        valid = math.min(valid, at - now)
      end
      keep_answer(id, now + valid, answer, valid + grace)
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

  -- The windows without room: the number of the charge, their own, and when they have room.
  local function without_room()
    local found = {}
    for i, charge in ipairs(charges) do
      for w, window in ipairs(charge.windows) do
        local at = room.earliest(charge.log, now, charge.cost, window)
        if at > now then
          found[#found + 1] = {i - 1, w - 1, at, 0}
        end
      end
    end
    return found
  end

  -- The window with the least room, where only others in the line are in the way.
  local function tightest(at)
    local least
    for i, charge in ipairs(charges) do
      for w, window in ipairs(charge.windows) do
        local left = room.remaining(charge.log, window)
        if not least or left < least[4] then
          least = {i - 1, w - 1, at, left}
        end
      end
    end
    return {least}
  end

  local function refused(refusals, from)
    local counted = has(RECORD) and not has(QUIET) and count_refused()
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

  local function charged(at)
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
  if has(ROOM) then
    local least = tightest(now)
    return reply(least[1] and least[1][4] or 0, 0, least, {})
  end
  local from = math.max(now, start)
  if queue and queue.log.last > now then
    from = math.max(from, queue.log.last)
  end
  if has(BOOK) then
    local at = earliest(from)
    if (patience >= 0 and at - now > patience) or (has(EXACT) and at > math.max(now, start)) then
      local refusals = without_room()
      return refused(#refusals > 0 and refusals or tightest(at), from)
    end
    return charged(at)
  end
  local refusals = without_room()
  if #refusals > 0 then
    return refused(refusals, from)
  end
  if has(RECORD) then
    return charged(now)
  end
  return reply(from == now and now or earliest(from), 0, {}, {})
end
