-- Decide on messages in order, each in one step. ARGV: the messages, packed. KEYS: the logs of each
-- message, then the key of its queue's bookings and that of its id, if it has them, then those of
-- the sorted sets of unique recipients. The reply to a
-- message is the time if it fits now, and if it was charged, after a space, the generations of its
-- logs; otherwise the list that `decide` returns. What is not always needed is in functions of its own
-- (`load_decide`, `load_add_full_windows`), because a server sets up all of a script for each call.

local TAKE, CHECK, CLOCK, ENQUEUE = 1, 0, 16, 2048
local ALL_BUT_CLOCK_AND_DENIALS = 65535 - CLOCK - DENIALS_UNCOUNTED

local add_full_windows, decide, generation_now

-- Returns what is stored for a log with one event, now: the entry, the state, and the lifetime.
local function pack_new_log(cost, span, slot, ceiling, now, grace)
  generation_now = generation_now or new_generation()
  local needed_for = span + math.floor(span / 8)
  local state = struct.pack(STATE, MARK, generation_now, 1, now, now, now, 0, cost, 0, cost, 64, span, slot,
    ceiling, now + needed_for)
  return write_entry(now, cost, cost, now, 0), state, string.format('%.0f', needed_for + grace)
end

-- Decides on nearly every message: one whose logs have no bookings and need no cleaning up. Returns
-- the reply, or nil if the message needs `decide`.
local function decide_simple(message, first, count, now, grace, flags)
  local states, generations, counted, reply, is_renewed_by_any = {}, {}, 0, nil, false
  local new_logs, new_by_charge = {}, {} -- in a batch, many new logs are charged the same
  local pos = HEADER_SIZE + 1
  for i = 1, count do
    local key = KEYS[first + i - 1]
    local state = redis.pcall('LINDEX', key, -1)
    local charge = not state and message:sub(pos, pos + CHARGE_SIZE - 1)
    local new_log = charge and new_by_charge[charge]
    local cost, smallest, span, slot, ceiling, denied, windows
    if new_log then
      denied, windows, pos = new_log[1], new_log[2], pos + CHARGE_SIZE
    else
      cost, smallest, span, slot, ceiling, denied, windows, pos = struct.unpack(CHARGE, message, pos)
      if cost > smallest or state and (not is_state(state) or #state > STATE_SIZE) then
        return nil
      end
    end
    counted = counted + denied
    if new_log then
      new_logs[i] = new_log
    elseif charge then
      new_log = {denied, windows}
      if flags ~= CHECK then
        new_log = {denied, windows, pack_new_log(cost, span, slot, ceiling, now, grace)}
      end
      new_by_charge[charge], new_logs[i] = new_log, new_log
      is_renewed_by_any = true
    else
      local _, generation, n, newest, last, oldest, base, sent, attempted_base, attempted,
        compact_at, log_span, log_slot, log_ceiling, expires = struct.unpack(STATE, state)
      if now < newest or now < last or attempted >= LARGEST_TOTAL
        or span > log_span or slot % log_slot > 0 or ceiling > log_ceiling
        or (n > 0 and oldest + log_span * 1.125 < now)
        or (n >= compact_at
          and is_compactable(n, log_span, log_slot, attempted - attempted_base - sent + base))
      then
        return nil
      end
      if attempted - attempted_base + cost > smallest then -- otherwise every window has room
        if denied > 0 and flags == TAKE then
          return nil
        end
        reply = reply or {now, now, 0, 0, 0}
        add_full_windows = add_full_windows or load_add_full_windows()
        add_full_windows(reply, i - 1, key, state, cost, message, pos, windows)
      end
      states[i] = {n, last, oldest, base, sent + cost, attempted_base, attempted + cost, compact_at,
        log_span, log_slot, log_ceiling, expires}
      generations[i] = generation
      is_renewed_by_any = is_renewed_by_any or now + log_span > expires
    end
    pos = pos + windows * WINDOW_SIZE
  end
  if reply and reply[5] > 0 then
    return (counted == 0 or flags ~= TAKE) and reply or nil
  elseif flags == CHECK then
    return now
  end
  local may_run, key = redis.acl_check_cmd, KEYS[first] -- nil before Redis 7
  local is_usual = flags == TAKE and not is_renewed_by_any -- LSET comes first then
  if may_run and not (may_run('RPUSH', key, '')
    and (is_usual or may_run('LSET', key, -1, '') and may_run('PEXPIRE', key, 1)
      and may_run('LTRIM', key, 0, -1) and may_run('LRANGE', key, 0, -1)))
  then
    return nil -- `decide` raises the error, before anything is written
  end
  for i = 1, count do
    local key, new_log = KEYS[first + i - 1], new_logs[i]
    if new_log then
      redis.call('RPUSH', key, new_log[3], new_log[4])
      redis.call('PEXPIRE', key, new_log[5])
      generations[i] = generation_now
    else
      local n, last, oldest, base, sent, attempted_base, attempted, compact_at, span, slot, ceiling,
        expires = unpack(states[i])
      local is_renewed = now + span > expires
      if is_renewed then
        expires = now + span + math.floor(span / 8)
      end
      local is_same_slot = n > 0 and math.floor(last / slot) == math.floor(now / slot)
      if not is_same_slot then
        n = n + 1
      end
      if n == 1 then
        oldest = now
      end
      local entry = write_entry(now, sent, attempted, oldest, attempted_base)
      local state = struct.pack(STATE, MARK, generations[i], n, now, now, oldest, base, sent,
        attempted_base, attempted, compact_at, span, slot, ceiling, expires)
      if is_same_slot then
        redis.call('LSET', key, -2, entry)
        redis.call('LSET', key, -1, state)
      else
        redis.call('LSET', key, -1, entry)
        redis.call('RPUSH', key, state)
      end
      if is_renewed then
        redis.call('PEXPIRE', key, expires - now + grace)
      end
    end
  end
  return string.format('%.0f ', now) .. table.concat(generations)
end

if #ARGV > 1 then
  local must_decide_all
  decide, must_decide_all = load_decide()
  must_decide_all()
end
local replies = {}
local first = 1
local time
for i = 1, #ARGV do
  local message = ARGV[i]
  local flags, count, now = struct.unpack('<I2I4i7', message)
  local grace = 3600000 -- with a clock of the backend, keys live an hour longer
  if bit.band(flags, CLOCK) == 0 then
    time = time or server_time()
    now, grace = time, 0
  end
  local reply
  local keys = count
  local simple_flags = bit.band(flags, ALL_BUT_CLOCK_AND_DENIALS)
  if simple_flags == TAKE or simple_flags == CHECK then
    reply = decide_simple(message, first, count, now, grace, bit.band(flags, 65535 - CLOCK))
  else
    keys = keys + (bit.band(flags, ENQUEUE) > 0 and 1 or 0)
      + (bit.band(flags, IDEMPOTENT) > 0 and 1 or 0)
      + (bit.band(flags, 4096) > 0 and struct.unpack('<I4', message, #message - 3) or 0) -- UNIQUE
  end
  if not reply then
    decide = decide or load_decide()
    reply = decide(message, first, now, grace)
  end
  replies[i] = reply
  first = first + keys
end
if #replies == 1 then
  return replies[1]
end
return replies
