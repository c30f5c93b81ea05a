-- Decide on the charges of one message, log by log.

local RECALL, ENQUEUE = 1024, 2048

-- Decides on the message whose logs are in KEYS from `first` on. Returns a list: the time; the first
-- moment with room; flags, 1 if the message was charged and 2 if this answer was given before; the
-- token of its id; the number of refusals; the refusals, as transaction.lua has them. If the message
-- was charged, also whether it stands in its queue; its number there; its time; and for each event
-- the number of the charge, or a key, the moment, the cost and the generation of the log.
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
  local bookings_key = has(ENQUEUE) and first + count
  local next = bookings_key and first + count + 1 or first + count
  local id = has(IDEMPOTENT) and KEYS[next]
  local records
  must_decide(flags, count, first)
  if id then
    records = load_records()
    local answer = records.read_answer(id)
    if answer == false then
      return {-1, next}
    elseif answer and now < answer.valid_until then
      return records.repeat_answer(id, answer, now)
    elseif has(RECALL) then
      return {now, now, 0, 0, 0}
    end
  end
  local all = transaction(charges, room, now)

  -- Returns the reply, and stores it as the answer to the id.
  local function reply(at, refusals, record)
    for _, charge in ipairs(charges) do
      if charge.log.has_new_full and not charge.unique then
        change.save_full(charge.log)
      end
    end
    local answer = {now, at, record and 1 or 0, id and token or 0, #refusals}
    for _, refusal in ipairs(refusals) do
      for i = 1, 4 do
        answer[#answer + 1] = refusal[i]
      end
    end
    if record then
      add_record(answer, record)
    end
    if id then
      local valid_until = now + lifetime
      if #refusals > 0 then -- no longer than until the message may fit
        valid_until = math.min(valid_until, at)
      elseif at > now then
        valid_until = at + lifetime
      end
      records.store_answer(id, {valid_until = valid_until, reply = answer}, valid_until - now + grace)
    end
    return answer
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

  local function refuse(refusals, from)
    local counted = has(RECORD) and not has(DENIALS_UNCOUNTED) and count_refused()
    local at = from
    for _, refusal in ipairs(refusals) do
      if counted then
        all.refresh(refusal)
      end
      at = math.max(at, refusal[3])
    end
    at = all.earliest(at)
    if counted then
      save_refused()
    end
    return reply(at, refusals)
  end

  local function charge_all(at)
    local bookings
    if bookings_key and at > now then
      records = records or load_records()
      bookings = records.bookings_of(KEYS[bookings_key], queue.log, logs)
      if bookings.is_foreign then
        return {-1, bookings_key}
      end
    end
    local record = {at = at, events = all.charge(at, change)}
    all.save(change)
    if queue and at > now then
      local event = transaction({queue}, room, now).charge(at, change)[1]
      if bookings then
        bookings.add(record, event, now, grace)
      else -- several slots: the caller adds the booking when it stands in all of them
        event.charge = #charges
        table.insert(record.events, event)
      end
      change.save(queue.log)
    end
    return reply(at, {}, record)
  end

  if has(REFUSED) then
    count_refused()
    save_refused()
    return reply(now, {})
  end
  if has(LEAST_REMAINING) then
    local least = all.tightest(now)
    return reply(least[1] and least[1][4] or 0, least)
  end
  local from = math.max(now, start)
  if queue and queue.log.last > now then
    from = math.max(from, queue.log.last)
  end
  if has(BOOK) then
    local at = all.earliest(from)
    if (max_delay >= 0 and at - now > max_delay)
      or (has(AT_START_ONLY) and at > math.max(now, start))
    then
      local refusals = all.refusals()
      return refuse(#refusals > 0 and refusals or all.tightest(at), from)
    end
    return charge_all(at)
  end
  local refusals = all.refusals()
  if #refusals > 0 then
    return refuse(refusals, from)
  end
  if has(RECORD) then
    return charge_all(now)
  end
  return reply(from == now and now or all.earliest(from), {})
end
