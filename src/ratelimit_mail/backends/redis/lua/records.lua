-- What messages were charged, and the bookings of queues.
--
-- A record has `events`, each with its key, moment, cost and the generation of its log, and perhaps
-- with `members`, as unique.lua has them; their length and these then follow the event. The record
-- of a booking also has `at`, the booked time, and, while it stands in its queue, `number`, its
-- place there. `is_live` is false once it was refunded.
--
-- The bookings of a queue are in a sorted set, by their numbers: the packed number, what the queue's
-- log was charged for it, and the packed record. Before all of them is the state of the queue: the
-- first and the last number that were ever used, when the set expires, and a moment by which every
-- booking is due that is later than one behind it. The numbers of a new queue begin at the server's
-- clock, so that none is that of a booking that was lost; those ahead of all others begin at minus
-- that. A booking whose queue event has another generation than the queue's log was made before a
-- reset and stands in no queue any more.

local EVENT = '<I2c0i7I6c12'
local BOOKING, FIRST_EVENT = '<i7i7i7i7I6c12', 47
local QUEUE_STATE = '<i7i7i7i7'
local READ_TOGETHER = 100 -- so many bookings are read at once
local DROPPED_TOGETHER = 2 -- so many bookings may be dropped when one is added

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

-- Stores a queue as a sorted set that is stored as a hash: by number, the rest of each booking, and
-- under 'state' that of the queue, with one number more. Earlier versions stored it so. Returns
-- whether it is one.
local function convert_hash(key)
  local fields, is_foreign = fetch('HGETALL', key)
  local names, state = {}, nil
  for i = 1, not is_foreign and #fields or 0, 2 do
    names[#names + 1] = fields[i]
    state = fields[i] == 'state' and fields[i + 1] or state
  end
  if not state or #state ~= 32 then
    return false
  end
  must_change_bookings(key)
  must_run('PTTL', key)
  must_run('HDEL', key, '')
  local lifetime = redis.call('PTTL', key)
  local first_number, last_number, expires, _, moved_until = struct.unpack('<i7i7i7I4i7', state)
  for i = 1, #names, 1000 do -- then there is no key
    redis.call('HDEL', key, unpack(names, i, math.min(i + 999, #names)))
  end
  redis.call('ZADD', key, '-inf',
    struct.pack(QUEUE_STATE, first_number, last_number, expires, moved_until))
  for i = 1, #fields, 2 do
    if fields[i] ~= 'state' then
      redis.call('ZADD', key, fields[i], struct.pack('<i7', tonumber(fields[i])) .. fields[i + 1])
    end
  end
  if lifetime > 0 then
    redis.call('PEXPIRE', key, lifetime)
  end
  return true
end

-- Returns the functions for the bookings of one queue.
local function bookings_of(key, log, logs)
  local self = {}
  local states, is_foreign = fetch('ZRANGEBYSCORE', key, '-inf', '-inf')
  if is_foreign and convert_hash(key) then
    states, is_foreign = fetch('ZRANGEBYSCORE', key, '-inf', '-inf')
  end
  if not is_foreign and not states[1] then
    is_foreign = redis.call('ZCARD', key) > 0
  end
  self.is_foreign = is_foreign
  local first_number, last_number, expires, moved_until = nil, nil, LONG_AGO, LONG_AGO
  if not is_foreign and states[1] then
    first_number, last_number, expires, moved_until = struct.unpack(QUEUE_STATE, states[1])
  end

  local function write_number(number)
    return string.format('%.0f', number)
  end

  -- Returns the booking with this number, or nil.
  function self.get(number)
    local text = redis.call('ZRANGEBYSCORE', key, write_number(number), write_number(number))[1]
    if not text then
      return nil
    end
    local booking = {number = number, is_live = true, events = read_events(text, FIRST_EVENT)}
    local _
    _, booking.at, booking.last, booking.queue_moment, booking.queue_cost, booking.queue_generation =
      struct.unpack(BOOKING, text)
    return booking
  end

  -- Calls `visit` for the bookings from one limit to another in the order of their numbers, or
  -- against it, with the number, the time and the text of each, until it returns true.
  local function visit_all(command, from, to, visit)
    local offset, texts = 0, nil
    repeat
      texts = redis.call(command, key, from, to, 'LIMIT', offset, READ_TOGETHER)
      for _, text in ipairs(texts) do
        local number, at, _, _, _, generation = struct.unpack(BOOKING, text)
        if generation == log.generation and visit(number, at, text) then
          return
        end
      end
      offset = offset + READ_TOGETHER
    until #texts < READ_TOGETHER
  end

  -- Returns whether all bookings ahead of a record are due by `now`, as far as it is known without
  -- reading them: one behind them was not booked for an earlier time.
  function self.surely_is_first(record, now)
    return record.at <= now and moved_until <= now
  end

  -- Returns when the last of the bookings ahead of a record is due; if that is by `now`, any moment
  -- by then.
  function self.last_ahead(record, now)
    local last, own, own_at = LONG_AGO, record.number, record.at
    if own then
      visit_all('ZREVRANGEBYSCORE', '(' .. write_number(own), '(-inf', function(_, at)
        last = math.max(last, at)
        return at > moved_until or moved_until <= now -- and so none ahead of it is later
      end)
    else
      visit_all('ZRANGEBYSCORE', '(-inf', '+inf', function(_, at)
        last = at <= own_at and math.max(last, at) or last
      end)
    end
    return last
  end

  -- Returns whether no booking is behind a record.
  function self.is_last(record)
    return record.number ~= nil and record.number >= (last_number or record.number)
  end

  -- Returns the texts of the bookings behind a record that are due before `bound`.
  function self.behind(record, bound)
    local texts, own, own_at = {}, record.number, record.at
    local from = own and '(' .. write_number(own) or '(-inf'
    visit_all('ZRANGEBYSCORE', from, '+inf', function(_, at, text)
      if at < bound and (own or at > own_at) then
        texts[#texts + 1] = text
      end
      return at >= bound and at > moved_until -- and so are all behind it
    end)
    return texts
  end

  -- Removes a booking and its event in the queue's log, which is not saved.
  function self.remove(booking)
    redis.call('ZREMRANGEBYSCORE', key, write_number(booking.number), write_number(booking.number))
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
    if record.number then
      moved_until = math.max(moved_until, record.at)
    elseif log.last > record.at then
      moved_until = math.max(moved_until, log.last)
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
    -- What has left every window is dropped, a little at a time.
    for _, text in ipairs(redis.call('ZRANGEBYSCORE', key, '(-inf', '+inf', 'LIMIT', 0, DROPPED_TOGETHER)) do
      local number, _, last_event = struct.unpack(BOOKING, text)
      if last_event + log.span > now then
        break
      end
      redis.call('ZREMRANGEBYSCORE', key, write_number(number), write_number(number))
    end
    local needed_until = last + log.span
    local is_renewed = needed_until > expires
    if is_renewed then
      expires = needed_until + math.floor(log.span / 8)
    end
    local text = struct.pack(BOOKING, record.number, record.at, last, queue_event.moment,
      queue_event.cost, queue_event.generation) .. write_events(record.events)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '-inf')
    redis.call('ZADD', key, '-inf', struct.pack(QUEUE_STATE, first_number, last_number, expires,
      moved_until), write_number(record.number), text)
    if is_renewed then
      redis.call('PEXPIRE', key, expires - now + grace)
    end
  end

  return self
end
