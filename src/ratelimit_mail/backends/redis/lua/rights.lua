-- Whether the user may run what a script writes with. A refused command ends a script and undoes
-- nothing, so the scripts ask before their first write. Before Redis 7 they cannot ask.

-- Raises the server's error for a command that the user may not run.
local function must_run(...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(...) then
    redis.call(...)
  end
end

-- Raises an error if the user may not change the log at `key`, which is read before. Nil if there is
-- none to change.
local function must_change(key)
  if key then
    must_run('RPUSH', key, '')
    must_run('LSET', key, -1, '')
    must_run('LTRIM', key, 0, -1)
    must_run('LREM', key, 1, '')
    must_run('LINSERT', key, 'BEFORE', '', '')
    must_run('LRANGE', key, 0, -1)
    must_run('PEXPIRE', key, 1)
  end
end

-- Raises an error if the user may not change the bookings in the sorted set at `key`, which are read
-- before.
local function must_change_bookings(key)
  must_run('TIME')
  must_run('ZADD', key, 0, '')
  must_run('ZREMRANGEBYSCORE', key, 0, 0)
  must_run('PEXPIRE', key, 1)
end

-- Raises an error if the user may not change the unique recipients in the sorted set at `key`.
local function must_change_members(key)
  must_run('ZRANGE', key, -1, -1)
  must_run('ZSCORE', key, '')
  must_run('ZRANK', key, '')
  must_run('ZCARD', key)
  must_run('ZCOUNT', key, 0, 0)
  must_run('ZREVRANGEBYSCORE', key, 0, 0)
  must_run('ZADD', key, 0, '')
  must_run('ZREM', key, '')
  must_run('ZREMRANGEBYSCORE', key, 0, 0)
  must_run('DEL', key)
  must_run('PEXPIRE', key, 1)
end

-- Raises an error if the user may not change the answer at `id`.
local function must_answer(id)
  must_run('GET', id)
  must_run('SET', id, '')
  must_run('PTTL', id)
end

-- Raises an error if the user may not do what a message asks for. Its keys are in KEYS from `first`
-- on.
local function must_decide(flags, count, first)
  local next = first + count
  if bit.band(flags, 3) > 0 then -- RECORD, REFUSED
    must_change(KEYS[first])
  end
  if bit.band(flags, 2048) > 0 then -- ENQUEUE
    must_change_bookings(KEYS[next])
    next = next + 1
  end
  if bit.band(flags, 32) > 0 then -- IDEMPOTENT
    must_answer(KEYS[next])
    next = next + 1
  end
  if bit.band(flags, 4096) > 0 and bit.band(flags, 1) > 0 then -- UNIQUE, RECORD
    must_change_members(KEYS[next])
  end
end

-- Raises an error, before anything is written for the first of the messages in ARGV, if the user may
-- not do what all of them ask for.
local function must_decide_all()
  local is_checked, first = {}, 1
  for i = 1, #ARGV do
    local flags, count = struct.unpack('<I2I4', ARGV[i])
    if not is_checked[flags] then
      must_decide(flags, count, first)
      is_checked[flags] = true
    end
    first = first + count + (bit.band(flags, 2048) > 0 and 1 or 0)
      + (bit.band(flags, 32) > 0 and 1 or 0)
      + (bit.band(flags, 4096) > 0 and struct.unpack('<I4', ARGV[i], #ARGV[i] - 3) or 0)
  end
end

-- Raises an error if the user may not move or take out what a receipt was charged.
local function must_move(receipt)
  must_change(receipt.log_key)
  if receipt.bookings_key then
    must_change_bookings(receipt.bookings_key)
  end
  if receipt.members_key then
    must_change_members(receipt.members_key)
  end
  if receipt.token then
    must_answer(receipt.id)
  end
end
