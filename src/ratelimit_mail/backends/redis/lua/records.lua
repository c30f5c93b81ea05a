-- What messages were charged, and the bookings of queues.
--
-- A record has `events`, each with its key, moment, cost and the generation of its log, and perhaps
-- with `members`, as unique.lua has them; their length and these then follow the event. The record
-- of a booking also has `at`, the booked time, and, while it stands in its queue, `number`, its
-- place there. `is_live` is false once it was refunded.
--
-- The bookings of a queue are in a hash: by number, the packed record and what the queue's log was
-- charged for it; under 'state', the first and the last number that were ever used, when the hash
-- expires, at how many fields bookings are dropped that have left every window, and a moment by which
-- every booking is due that is later than one behind it. The numbers of a
-- new hash begin at the server's clock, so that none is that of a booking that was lost; those ahead
-- of all others begin at minus that. A booking whose queue event has another generation than the
-- queue's log was made before a reset and stands in no queue any more.

local EVENT = '<I2c0i7I6c12'
local BOOKING, FIRST_EVENT = '<i7i7i7I6c12', 40
local QUEUE_STATE = '<i7i7i7I4i7'

local function write_events(events)
  local words = {}
  for i, event in ipairs(events) do
    local generation = event.members and 'm' .. event.generation:sub(2) or event.generation
    words[i] = struct.pack(EVENT, #event.key, event.key, event.moment, event.cost, generation)
    if event.members then
      words[i] = words[i] .. struct.pack('<I4c0', #event.members, event.members)
    end
  end
  return table.concat(words)
end

-- Reads what an event has changed for unique recipients, if its generation begins with m. Returns
-- the position after it.
local function read_members(event, text, pos)
  if event.generation:byte() == 109 then
    event.generation = 'g' .. event.generation:sub(2)
    event.members, pos = struct.unpack('<I4c0', text, pos)
  end
  return pos
end

local function read_events(text, pos)
  local events = {}
  while pos <= #text do
    local event = {}
    event.key, event.moment, event.cost, event.generation, pos = struct.unpack(EVENT, text, pos)
    pos = read_members(event, text, pos)
    events[#events + 1] = event
  end
  return events
end

local function write_record(record)
  return struct.pack('<BBi7i7', record.is_live and 1 or 0, record.number and 1 or 0,
    record.number or 0, record.at) .. write_events(record.events)
end

local function read_record(text, pos)
  local is_live, is_standing, number, at
  is_live, is_standing, number, at, pos = struct.unpack('<BBi7i7', text, pos)
  return {
    is_live = is_live > 0, number = is_standing > 0 and number or nil, at = at,
    events = read_events(text, pos),
  }
end

-- Reads a receipt, as codec.py packs it: the token of the id, the number of keys, of events, whether
-- there is a queue, the number of the booking (if it stands in its queue) and its time; then the
-- events. KEYS from `first` on: the logs, then the log and the bookings of the queue, then the id
-- and the key of the record that has replaced that of the answer.
local function read_receipt(packed, first)
  local token, keys, count, has_queue, is_standing, number, at, pos =
    struct.unpack('<I6I2I4BBi7i7', packed)
  local receipt = {
    token = token > 0 and token,
    record = {is_live = true, number = is_standing > 0 and number or nil, at = at, events = {}},
  }
  for i = 1, count do
    local event, index = {}, nil
    index, event.moment, event.cost, event.generation, pos = struct.unpack('<I2i7I6c12', packed, pos)
    pos = read_members(event, packed, pos)
    event.key = KEYS[first + index]
    receipt.members_key = event.members and members_key(event.key) or receipt.members_key
    receipt.record.events[i] = event
  end
  receipt.log_key, receipt.first, first = KEYS[first], first, first + keys
  if has_queue > 0 then
    receipt.queue_key, receipt.bookings_key, first = KEYS[first], KEYS[first + 1], first + 2
  end
  receipt.id, receipt.moved_key, receipt.next = KEYS[first], KEYS[first + 1], first
  return receipt
end

-- Returns the functions for the bookings of one queue.
local function bookings_of(hash, log, logs)
  local self = {}
  local state, is_foreign = fetch('HGET', hash, 'state')
  self.is_foreign = is_foreign
  local first_number, last_number, expires, prune_at, moved_until = nil, nil, LONG_AGO, 64, LONG_AGO
  if state then
    first_number, last_number, expires, prune_at, moved_until = struct.unpack(QUEUE_STATE, state)
  end

  -- Returns the booking with this number, or nil.
  function self.get(number)
    local text = redis.call('HGET', hash, string.format('%.0f', number))
    if not text then
      return nil
    end
    local booking = {number = number, is_live = true, events = read_events(text, FIRST_EVENT)}
    booking.at, booking.last, booking.queue_moment, booking.queue_cost, booking.queue_generation =
      struct.unpack(BOOKING, text)
    return booking
  end

  -- Calls `visit` for each booking, in no order, with its number and its text.
  local function visit_all(visit)
    local fields = redis.call('HGETALL', hash)
    for i = 1, #fields, 2 do
      if fields[i] ~= 'state' then
        visit(tonumber(fields[i]), fields[i + 1])
      end
    end
  end

  -- Returns whether all bookings ahead of a record are due by `now`, as far as it is known without
  -- reading them: one behind them was not booked for an earlier time.
  function self.surely_is_first(record, now)
    return record.at <= now and moved_until <= now
  end

  -- Returns when the last of the bookings ahead of a record is due, and the times and the texts of
  -- those behind it.
  function self.neighbours(record)
    local last_ahead, times, texts = LONG_AGO, {}, {}
    local own, own_at, generation = record.number, record.at, log.generation
    visit_all(function(number, text)
      local at, _, _, _, other_generation = struct.unpack(BOOKING, text)
      if number == own or other_generation ~= generation then
        return
      elseif own and number < own or not own and at <= own_at then
        last_ahead = math.max(last_ahead, at)
      else
        times[#times + 1], texts[#texts + 1] = at, text
      end
    end)
    return last_ahead, {times = times, texts = texts}
  end

  -- Removes a booking and its event in the queue's log, which is not saved.
  function self.remove(booking)
    redis.call('HDEL', hash, string.format('%.0f', booking.number))
    logs.remove(log, {{
      moment = booking.queue_moment, cost = booking.queue_cost,
      generation = booking.queue_generation,
    }})
  end

  -- Returns a number ahead of all in this queue, also of those that were lost.
  function self.number_ahead()
    return math.min((first_number or 0) - 1, -server_microseconds())
  end

  -- Adds the record of a booking, at the end of the queue or in its place, and what the queue's log
  -- was charged for it. The log must be saved afterwards.
  function self.add(record, queue_event, now, grace)
    if record.number or log.last > record.at then
      moved_until = math.max(moved_until, record.at, log.last)
    end
    record.number = record.number or math.max(last_number and last_number + 1 or 0, server_microseconds())
    first_number = math.min(first_number or record.number, record.number)
    last_number = math.max(last_number or record.number, record.number)
    local last = queue_event.moment
    for _, event in ipairs(record.events) do
      last = math.max(last, event.moment)
    end
    if last > queue_event.moment then -- it is spread, and the log must outlive all of it
      log.last_needed = math.max(log.last_needed or LONG_AGO, last)
    end
    if redis.call('HLEN', hash) >= prune_at then
      local used = 0
      visit_all(function(number, text)
        local _, last_event = struct.unpack(BOOKING, text)
        if last_event + log.span <= now then
          redis.call('HDEL', hash, string.format('%.0f', number))
        else
          used = used + 1
        end
      end)
      prune_at = 2 * used + 64
    end
    local needed_until = last + log.span
    local is_renewed = needed_until > expires
    if is_renewed then
      expires = needed_until + math.floor(log.span / 8)
    end
    local text = struct.pack(BOOKING, record.at, last, queue_event.moment, queue_event.cost,
      queue_event.generation) .. write_events(record.events)
    redis.call('HSET', hash, 'state', struct.pack(QUEUE_STATE, first_number, last_number, expires, prune_at,
      moved_until),
      string.format('%.0f', record.number), text)
    if is_renewed then
      redis.call('PEXPIRE', hash, expires - now + grace)
    end
  end

  return self
end
