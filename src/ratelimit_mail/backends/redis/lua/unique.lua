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

  -- Returns a log of `n` entries that may only be read.
  local function readable(log, n, times, totals)
    local total = n > 0 and totals[n] or 0
    return {
      key = log.key, generation = log.generation, span = log.span, slot = 1, ceiling = 0,
      newest = log.newest, times = times, sent_totals = totals, attempted_totals = totals, n = n,
      trim = 0, from = 1, moves = {}, inserted = {}, changed = {}, removed = {}, base = 0, sent = total,
      attempted_base = 0, attempted = total, last = n > 0 and times[n] or LONG_AGO,
      oldest = n > 0 and times[1] or LONG_AGO,
    }
  end

  -- Returns the recipients of a log as a log, whose entries are read when they are looked at. Without
  -- those that have `stamps`.
  local function view(log, stamps)
    local members = self.open(log)
    if not members.is_current then
      return readable(log, 0, {}, {})
    end
    local first = call('ZCOUNT', members.key, '-inf', scores_after(log.newest - log.span, true))
    local left_out = {}
    for digest in pairs(stamps) do
      left_out[#left_out + 1] = call('ZRANK', members.key, digest)
    end
    table.sort(left_out)
    local times = setmetatable({}, {__index = function(times, i)
      local rank = first + i - 1
      for _, each in ipairs(left_out) do
        rank = each <= rank and rank + 1 or rank
      end
      local score = call('ZRANGE', members.key, rank, rank, 'WITHSCORES')[2]
      times[i] = floor(tonumber(score) / REPEATS)
      return times[i]
    end})
    local totals = setmetatable({}, {__index = function(_, i)
      return i
    end})
    return readable(log, call('ZCARD', members.key) - 1 - first - #left_out, times, totals)
  end

  -- Returns the same with the events of bookings, as a log of which copies can be made.
  local function merged(log, stamps)
    local members, times, totals, n, total = self.open(log), {}, {}, 0, 0
    local function add(moment, cost)
      total = total + cost
      if times[n] ~= moment then
        n = n + 1
      end
      times[n], totals[n] = moment, total
    end
    logs.load(log, 1, log.n)
    local booked = log.trim + 1
    local function add_booked(until_moment)
      while booked <= log.n and logs.time(log, booked) <= until_moment do
        add(logs.time(log, booked), logs.total(log, booked) - logs.total(log, booked - 1))
        booked = booked + 1
      end
    end
    local scores = members.is_current and call('ZRANGEBYSCORE', members.key,
      scores_after(log.newest - log.span), '(+inf', 'WITHSCORES') or {}
    for i = 1, #scores, 2 do
      if not stamps[scores[i]] then
        local moment = floor(tonumber(scores[i + 1]) / REPEATS)
        add_booked(moment)
        add(moment, 1)
      end
    end
    add_booked(math.huge)
    return readable(log, n, times, totals)
  end

  -- Returns the recipients and bookings of a log as a log that may only be read, without those of
  -- `digests`. `is_copied`: whether copies of it are made.
  function self.read(log, digests, is_copied)
    local stamps = held(log, digests)
    if is_copied or log.n > 0 and log.last > log.newest - log.span then
      return merged(log, stamps)
    end
    return view(log, stamps)
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
