-- Unique recipients: what ratelimit_mail.counting.members and backends/transaction.py do.
--
-- Beside a log that counts each recipient once is a sorted set: the digests of its recipients, each
-- with its stamp as the score. The member with the highest score is the generation of the log; if
-- the log has another, what the set holds is of a log that was reset or lost, and does not count.
--
-- `members` of an event says what it has changed: for each recipient its digest, its stamp, and the
-- stamp before, all of fixed sizes.

local REPEATS, DIGEST_SIZE, STAMP_SIZE = 1024, 22, 17
local NOT_HELD = '-----------------'

-- Returns the key of the sorted set beside a log. No log has such a key: none has an empty name.
local function members_key(log_key)
  return (string.gsub(log_key, '}', '}:', 1))
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
  local floor, max = math.floor, math.max
  local call = redis.call
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

  local function event_of(log, stamp)
    return {moment = floor(stamp / REPEATS), cost = 1, generation = log.generation}
  end

  -- Returns the stamps of recipients whose events the log has, by digest, and these events.
  local function held(log, digests)
    local stamps, events = {}, {}
    for _, digest in ipairs(digests) do
      local stamp = stamp_of(log, digest)
      if is_held(log, stamp) then
        stamps[digest] = stamp
        events[#events + 1] = event_of(log, stamp)
      end
    end
    return stamps, events
  end

  -- Returns a log, or a copy of it without the events of recipients that it has. If it then has room
  -- in all windows whatever its times, `may_be_empty` allows to return an empty log, which has too.
  function self.without(log, digests, windows, may_be_empty)
    local _, events = held(log, digests)
    if #events == 0 then
      return log
    end
    local least = math.huge
    for _, window in ipairs(windows) do
      least = math.min(least, window.limit)
    end
    local remaining = log.attempted - log.attempted_base - #events
    if may_be_empty and remaining + #digests <= least then
      return {
        key = log.key, n = 0, trim = 0, newest = log.newest, last = LONG_AGO, base = 0, sent = 0,
        attempted_base = 0, attempted = 0,
      }
    end
    local copy = logs.copy(log)
    logs.remove(copy, events)
    return copy
  end

  -- Charges recipients at the moment `at`, and returns the event: those that are held move there.
  -- A booking ahead is charged beside what is held. The log is not saved yet.
  function self.charge(log, digests, at, now, change)
    local start = max(at, log.newest)
    if start > max(now, log.newest) then
      return {
        key = log.key, cost = #digests, generation = log.generation,
        moment = change.book(log, start, #digests),
      }
    end
    local stamps, events = held(log, digests)
    if #events > 0 then
      logs.remove(log, events)
    end
    local moment = change.book(log, start, #digests)
    local members = self.open(log)
    if not members.is_current then
      call('DEL', members.key)
      call('ZADD', members.key, '+inf', log.generation)
      members.is_current = true
    end
    local words, scores = {}, {}
    for _, digest in ipairs(digests) do
      local previous, stamp = stamps[digest], moment * REPEATS
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
    local first_held = (log.newest - log.span + 1) * REPEATS
    call('ZREMRANGEBYSCORE', members.key, '-inf', string.format('(%.0f', first_held))
    local lifetime = log.newest - now + log.span + floor(log.span / 8) + change.grace
    call('PEXPIRE', members.key, string.format('%.0f', lifetime))
    return {
      key = log.key, cost = #digests, moment = moment, generation = log.generation,
      members = table.concat(words),
    }
  end

  -- Takes an event of recipients out, if nothing was sent to them since, and puts back what it has
  -- moved. Returns whether the log has changed, which is not saved.
  function self.take_out(log, event)
    local members = event.generation == log.generation and self.open(log)
    if not members or not members.is_current then
      return false
    end
    local removed, put_back = {}, {}
    local size = DIGEST_SIZE + 2 * STAMP_SIZE
    for pos = 1, #event.members, size do
      local stamps = pos + DIGEST_SIZE
      local digest = event.members:sub(pos, stamps - 1)
      local stamp = read_stamp(event.members:sub(stamps, stamps + STAMP_SIZE - 1))
      local previous = read_stamp(event.members:sub(stamps + STAMP_SIZE, pos + size - 1))
      -- The last stamp of a millisecond may be that of several messages.
      if stamp_of(log, digest) == stamp and stamp % REPEATS < REPEATS - 1 then
        removed[#removed + 1] = event_of(log, stamp)
        if is_held(log, previous) then
          put_back[#put_back + 1] = floor(previous / REPEATS)
          call('ZADD', members.key, string.format('%.0f', previous), digest)
        else
          call('ZREM', members.key, digest)
        end
      end
    end
    if #removed == 0 then
      return false
    end
    logs.remove(log, removed)
    for _, moment in ipairs(put_back) do
      logs.enter(log, moment, log.newest, 1, 1)
    end
    return true
  end

  return self
end
