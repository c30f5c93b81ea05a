-- The log of one count: what ratelimit_mail.counting.event_log does, on a list.
--
-- The list holds the entries, oldest first, and behind them its state. An entry is a moment and
-- the running totals after it: what was sent, and, where that is more, what was asked for,
-- refused attempts included. Entry 0 is what has been forgotten. The generation of a log goes up
-- when it is reset, so that what was charged before cannot be taken out of it afterwards.

local STATE, STATE_SIZE, MARK = '<I4I2I4i7i7i7I6I6I6I6I4I6I6I6i7', 84, 0x326d6c72 -- rlm2
local LONG_AGO = -18014398509481984

local function is_state(value)
  return type(value) == 'string' and #value == STATE_SIZE and value:sub(1, 4) == 'rlm2'
end

-- Whether so many entries could be fewer, for what they stand for.
local function is_compactable(n, span, slot, refused)
  return refused > 0 or n * slot > 2 * span
end

-- Raises an error, before anything is written, where the user may not let keys expire.
local may_expire
local function must_expire(key)
  if may_expire then
    return
  elseif redis.acl_check_cmd and not redis.acl_check_cmd('PEXPIRE', key, 1) then -- since Redis 7
    redis.call('PEXPIRE', key, 1)
  end
  may_expire = true
end

