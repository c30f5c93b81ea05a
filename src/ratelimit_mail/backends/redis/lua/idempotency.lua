-- The remembered answer to a message with an id: a text of words, which are the time until which the
-- answer is valid, whether it was given more than once (1), and the reply; then, if its charges were
-- moved since, a line break and the packed record of where they are now. Words are numbers, except
-- the generations of logs.

local ANSWER = 'ratelimit-mail '

-- Returns the answer at `id`; nil if there is no value, false if the value is not an answer.
local function read_answer(id)
  local text, is_foreign = fetch('GET', id)
  if is_foreign then
    return false
  elseif not text then
    return nil
  elseif text:sub(1, #ANSWER) ~= ANSWER then
    return false
  end
  local line_end = text:find('\n', 1, true)
  local words = {}
  for word in text:sub(#ANSWER + 1, line_end):gmatch('%S+') do
    words[#words + 1] = tonumber(word) or word
  end
  local answer = {valid_until = table.remove(words, 1), is_shared = table.remove(words, 1) == 1}
  answer.reply, answer.token = words, words[4]
  if line_end then
    answer.moved = read_record(text, line_end + 1)
  end
  return answer
end

local function store_answer(id, answer, lifetime)
  local words = {string.format('%s%.0f', ANSWER, answer.valid_until), answer.is_shared and 1 or 0}
  for i, word in ipairs(answer.reply) do
    words[i + 2] = type(word) == 'number' and string.format('%.0f', word) or word
  end
  local text = table.concat(words, ' ')
  if answer.moved then
    text = text .. '\n' .. write_record(answer.moved)
  end
  redis.call('SET', id, text, 'PX', math.max(1, lifetime))
end

-- Returns the reply of an answer that is given again at the time `now`.
local function repeat_answer(id, answer, now)
  if not answer.is_shared and answer.reply[3] > 0 then
    answer.is_shared = true
    store_answer(id, answer, redis.call('PTTL', id))
  end
  local reply = answer.reply
  if answer.moved then
    local unmoved = reply
    reply = {}
    for i = 1, 5 + 4 * unmoved[5] do
      reply[i] = unmoved[i]
    end
    add_record(reply, answer.moved)
  end
  reply[1], reply[3] = now, reply[3] + 2
  return reply
end

-- Returns the functions for what a receipt was charged. A receipt with a token may be held by several
-- callers: where its charges are is in the answer to its id, or in the key that replaces it. Fields:
-- `record`, what is still there; `foreign_key`, a key whose value is not of this library.
local function charges_of(receipt, logs)
  local self = {record = receipt.record}
  local answer, is_replaced
  if receipt.token then
    local text, is_foreign = fetch('GET', receipt.moved_key)
    if is_foreign or text and text:sub(1, #ANSWER) ~= ANSWER then
      self.foreign_key = receipt.next + 1
      return self
    end
    answer = read_answer(receipt.id)
    if answer == false then
      self.foreign_key = receipt.next
      return self
    elseif answer and answer.token ~= receipt.token then
      answer = nil
    end
    if text then
      is_replaced = true
      self.record = read_record(text, #ANSWER + 1)
    elseif answer and answer.moved then
      self.record = answer.moved
    end
  end
  local booking
  if self.record.number and receipt.bookings_key then
    self.queue_log = self.queue_log or logs.open(receipt.queue_key)
    self.bookings = self.queue_log and bookings_of(receipt.bookings_key, self.queue_log, logs)
    if not self.queue_log or self.bookings.is_foreign then
      self.foreign_key = receipt.next - (self.queue_log and 1 or 2)
      return self
    end
    booking = self.bookings.get(self.record.number)
    -- Without it, a call whose answer was lost has taken the charges out.
    self.record.events = booking and booking.events or {}
    self.record.at = booking and booking.at or self.record.at
  end
  local opened = {}
  for _, event in ipairs(self.record.events) do
    if not opened[event.key] then
      opened[event.key] = logs.open(event.key)
      if not opened[event.key] then
        for i, key in ipairs(KEYS) do
          self.foreign_key = key == event.key and i or self.foreign_key
        end
        return self
      end
    end
  end

  -- Returns the record's events by log.
  function self.events_by_log()
    local events = {}
    for _, event in ipairs(self.record.events) do
      local log = opened[event.key]
      events[log] = events[log] or {}
      table.insert(events[log], event)
    end
    return events
  end

  -- Takes everything out, and the booking out of its queue. Returns the logs that have changed,
  -- which are not saved.
  function self.take_out()
    local changed = {}
    for log, events in pairs(self.events_by_log()) do
      local others = {}
      for _, event in ipairs(events) do
        if event.members then
          unique_recipients(logs).take_out(log, event)
        else
          others[#others + 1] = event
        end
      end
      if #others > 0 and logs.remove(log, others) then
        changed[#changed + 1] = log
      end
    end
    if booking then
      self.bookings.remove(booking)
      changed[#changed + 1] = self.queue_log
    end
    return changed
  end

  -- Stores where the charges are now, for every caller that has the token.
  function self.store(record)
    if not receipt.token then
      return
    end
    local lifetime = redis.call('PTTL', record.events[1] and record.events[1].key or receipt.log_key)
    if is_replaced or not answer or not record.is_live then
      redis.call('SET', receipt.moved_key, ANSWER .. write_record(record), 'PX',
        math.max(1, lifetime))
    end
    if answer and not is_replaced then
      if record.is_live then
        answer.moved = record
        lifetime = answer.is_shared and lifetime or 0
      else -- the next call with the id is charged again
        answer.valid_until, lifetime = 0, 0
      end
      store_answer(receipt.id, answer, math.max(lifetime, redis.call('PTTL', receipt.id)))
    end
  end

  return self
end
