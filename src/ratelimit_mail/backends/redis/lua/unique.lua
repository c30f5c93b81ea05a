-- Unique recipients: what ratelimit_mail.counting.members and backends/transaction.py do.
--
-- Recipients are in a sorted set beside their log: by a digest, with the stamp as the score. So a
-- message to one that is held takes little time, however many there are. The list of the log has its
-- state, and only the events of bookings. The member with the highest score is the generation of the
-- log; if the log has another, what the set holds is of a log that was reset or lost, and does not
-- count.
--
-- `members` of an event says what it has changed: for each recipient its digest, its stamp, and the
-- stamp before, all of fixed sizes.

local REPEATS, DIGEST_SIZE, STAMP_SIZE = 1024, 22, 17
local NOT_HELD = '-----------------'

-- Returns the key of the sorted set beside a log. No log has such a key: none has an empty name.
local function members_key(log_key)
  return (string.gsub(log_key, '}', '}:', 1))
end

-- Returns the number of a key in KEYS.
local function number_of_key(key)
  for i, each in ipairs(KEYS) do
    if each == key then
      return i
    end
  end
end

local function write_stamp(stamp)
  return stamp and string.format('%+017.0f', stamp) or NOT_HELD
end

local function read_stamp(text)
  return text ~= NOT_HELD and tonumber(text)
end

-- Returns the functions for the unique recipients of logs.
local function unique_recipients(logs)
  local self = {}
  local floor, max, call = math.floor, math.max, redis.call
  local opened = {}

  -- Returns the recipients of a log, or nil if the value beside the log is not a sorted set.
  function self.open(log)
    if not opened[log.key] then
      local key = members_key(log.key)
      local last, is_foreign = fetch('ZRANGE', key, -1, -1)
      if is_foreign then
        return nil
      end
      opened[log.key] = {key = key, is_current = last[1] == log.generation}
    end
    return opened[log.key]
  end

  -- Returns the stamp of a recipient, or false.
  local function stamp_of(log, digest)
    local members = self.open(log)
    local score = members.is_current and call('ZSCORE', members.key, digest)
    return score and tonumber(score)
  end

  local function is_held(log, stamp)
    return stamp and floor(stamp / REPEATS) > log.newest - log.span
  end

  -- Returns the stamps of recipients that are held, by digest.
  local function held(log, digests)
    local stamps = {}
    for _, digest in ipairs(digests) do
      local stamp = stamp_of(log, digest)
      if is_held(log, stamp) then
        stamps[digest] = stamp
      end
    end
    return stamps
  end

  -- Returns a limit of scores: those below it, or from it on, are of recipients after `moment`.
  local function scores_after(moment, is_below)
    return string.format(is_below and '(%.0f' or '%.0f', (moment + 1) * REPEATS)
  end

  -- Returns how many recipients of a log are held, apart from those that have `stamps`; a function that
  -- returns the moment of one by its number; and one that returns how many there are by a moment.
  local function recipients(log, stamps)
    local members = self.open(log)
    if not members.is_current then
      return 0, nil, function()
        return 0
      end
    end
    local function count(last)
      return call('ZCOUNT', members.key, '-inf', scores_after(last, true))
    end
    local first, left_out = count(log.newest - log.span), {}
    for digest in pairs(stamps) do
      left_out[#left_out + 1] = call('ZRANK', members.key, digest)
    end
    table.sort(left_out)
    local function moment_of(i)
      local rank = first + i - 1
      for _, each in ipairs(left_out) do
        rank = each <= rank and rank + 1 or rank
      end
      local score = call('ZRANGE', members.key, rank, rank, 'WITHSCORES')[2]
      return floor(tonumber(score) / REPEATS)
    end
    local function by(moment)
      local size = count(moment) - first
      for _, stamp in pairs(stamps) do
        size = floor(stamp / REPEATS) <= moment and size - 1 or size
      end
      return max(0, size)
    end
    return call('ZCARD', members.key) - 1 - first - #left_out, moment_of, by
  end

  -- Returns the recipients and the bookings of a log as a log that may only be read: its entries are
  -- read when they are looked at. Without the recipients of `digests`.
  function self.read(log, digests)
    local size, moment_of, recipients_by = recipients(log, held(log, digests))
    local due = logs.last_by(log, log.newest, 0, log.n)
    -- The entry of a booking that is due: before the recipients of its moment.
    local entry_of = setmetatable({}, {__index = function(entry_of, booking)
      entry_of[booking] = booking + recipients_by(logs.time(log, booking) - 1)
      return entry_of[booking]
    end})

    -- Returns how many bookings are among the first entries.
    local function bookings_by(entry)
      if entry > size + due then
        return entry - size
      end
      local low, high = 0, due
      while low < high do
        local middle = math.ceil((low + high) / 2)
        if entry_of[middle] <= entry then
          low = middle
        else
          high = middle - 1
        end
      end
      return low
    end

    local times = setmetatable({}, {__index = function(times, i)
      local booking = bookings_by(i)
      local is_booking = booking > bookings_by(i - 1)
      times[i] = is_booking and logs.time(log, booking) or moment_of(i - booking)
      return times[i]
    end})
    local totals = setmetatable({}, {__index = function(_, i)
      local booking = bookings_by(i)
      return i - booking + logs.total(log, booking) - log.base
    end})
    local n = size + log.n
    local sent = size + log.sent - log.base
    return {
      key = log.key, generation = log.generation, span = log.span, slot = 1, ceiling = 0,
      newest = log.newest, times = times, sent_totals = totals, attempted_totals = totals, n = n,
      trim = 0, from = 1, moves = {}, inserted = {}, changed = {}, removed = {}, base = 0, sent = sent,
      attempted_base = 0, attempted = sent, last = n > 0 and times[n] or LONG_AGO,
      oldest = n > 0 and times[1] or LONG_AGO,
    }
  end

  -- Forgets recipients that have left every window by `present`. Time does not go back before that.
  local function forget(log, present)
    local members = self.open(log)
    local cutoff = scores_after(present - log.span, true)
    local last = members.is_current
      and call('ZREVRANGEBYSCORE', members.key, cutoff, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    if last then
      log.newest = max(log.newest, floor(tonumber(last) / REPEATS) + log.span)
      call('ZREMRANGEBYSCORE', members.key, '-inf', cutoff)
    end
  end

  -- Charges recipients at the moment `at`, and returns the event: those that are held move there.
  -- A booking ahead is charged beside what is held. The log is not saved yet.
  function self.charge(log, digests, at, now, change)
    local start, present = max(at, log.newest), max(now, log.newest)
    if start > present then
      local event = {
        key = log.key, cost = #digests, generation = log.generation,
        moment = change.book(log, start, #digests),
      }
      forget(log, present)
      return event
    end
    local members, stamps = self.open(log), held(log, digests)
    log.newest = present
    change.forget(log, present)
    forget(log, present)
    if not members.is_current then
      call('DEL', members.key)
      call('ZADD', members.key, '+inf', log.generation)
      members.is_current = true
    end
    local words, scores = {}, {}
    for _, digest in ipairs(digests) do
      local previous, stamp = stamps[digest], present * REPEATS
      if previous and previous >= stamp then
        stamp = math.min(previous + 1, stamp + REPEATS - 1)
      end
      words[#words + 1] = digest .. write_stamp(stamp) .. write_stamp(previous)
      scores[#scores + 1] = string.format('%.0f', stamp)
      scores[#scores + 1] = digest
    end
    for i = 1, #scores, 1000 do
      call('ZADD', members.key, unpack(scores, i, math.min(i + 999, #scores)))
    end
    local lifetime = present - now + log.span + floor(log.span / 8) + change.grace
    call('PEXPIRE', members.key, string.format('%.0f', lifetime))
    return {
      key = log.key, cost = #digests, moment = present, generation = log.generation,
      members = table.concat(words),
    }
  end

  -- Takes an event of recipients out, if nothing was sent to them since, and puts back what it has
  -- moved.
  function self.take_out(log, event)
    local members = event.generation == log.generation and self.open(log)
    if not members or not members.is_current then
      return
    end
    local size = DIGEST_SIZE + 2 * STAMP_SIZE
    for pos = 1, #event.members, size do
      local stamps = pos + DIGEST_SIZE
      local digest = event.members:sub(pos, stamps - 1)
      local stamp = read_stamp(event.members:sub(stamps, stamps + STAMP_SIZE - 1))
      local previous = read_stamp(event.members:sub(stamps + STAMP_SIZE, pos + size - 1))
      -- The last stamp of a millisecond may be that of several messages.
      if stamp_of(log, digest) == stamp and stamp % REPEATS < REPEATS - 1 then
        if is_held(log, previous) then
          call('ZADD', members.key, string.format('%.0f', previous), digest)
        else
          call('ZREM', members.key, digest)
        end
      end
    end
  end

  return self
end
