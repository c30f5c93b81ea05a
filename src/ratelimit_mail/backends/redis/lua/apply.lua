-- Decides on messages in order, each in one step. ARGV: the messages, packed; KEYS: the logs of
-- each in turn, with the key of its id, if it has one, behind them. A message's reply is the
-- time, where it fits at once, or the list that `careful` gives. What is not always needed
-- stands in functions of its own, because a server makes all of a script anew for each call.

local TAKE, LOOK, CLOCK, UNLIKE = 1, 0, 16, 65535 - 16 - QUIET

local add_full, careful

-- Nearly every message: nothing is booked in its logs, and they need no tidying up.
local function quick(message, first, count, now, grace, mode)
  local found, counted, reply = {}, 0, nil
  local pos = HEADER_SIZE + 1
  for i = 1, count do
    local key = KEYS[first + i - 1]
    local state = redis.pcall('LINDEX', key, -1)
    local cost, smallest, span, slot, ceiling, denied, windows
    cost, smallest, span, slot, ceiling, denied, windows, pos = struct.unpack(CHARGE, message, pos)
    counted = counted + denied
    if cost > smallest or state and not is_state(state) then
      return nil
    elseif state then
      local _, generation, n, newest, last, oldest, base, sent, asked_base, asked, compact_at,
        kept, kept_slot, kept_ceiling, expires = struct.unpack(STATE, state)
      if generation > 0 or now < newest or now < last
        or span > kept or slot % kept_slot > 0 or ceiling > kept_ceiling
        or (n > 0 and oldest + kept * 1.125 < now)
        or (n >= compact_at and is_compactable(n, kept, kept_slot, asked - asked_base - sent + base))
      then
        return nil
      end
      if asked - asked_base + cost > smallest then -- else there is room, whatever the windows
        if denied > 0 and mode == TAKE then
          return nil
        end
        reply = reply or {now, now, 0, 0, 0}
        add_full = add_full or the_search()
        add_full(reply, i - 1, key, state, cost, message, pos, windows)
      end
      found[i] = {n, last, oldest, base, sent + cost, asked_base, asked + cost, compact_at,
        kept, kept_slot, kept_ceiling, expires}
    else
      must_expire(key)
      found[i] = {0, now, now, 0, cost, 0, cost, 64, span, slot, ceiling, LONG_AGO}
    end
    pos = pos + windows * WINDOW_SIZE
  end
  if reply and reply[5] > 0 then
    return (counted == 0 or mode ~= TAKE) and reply or nil
  elseif mode == LOOK then
    return now
  end
  for i = 1, count do
    local key = KEYS[first + i - 1]
    local n, last, oldest, base, sent, asked_base, asked, compact_at, span, slot, ceiling,
      expires = unpack(found[i])
    local is_new, renewed = expires == LONG_AGO, now + span > expires
    if renewed then
      expires = now + span + math.floor(span / 8)
    end
    local together = n > 0 and math.floor(last / slot) == math.floor(now / slot)
    if not together then
      n = n + 1
    end
    if n == 1 then
      oldest = now
    end
    local entry = write_entry(now, sent, asked, oldest, asked_base)
    local state = struct.pack(STATE, MARK, 0, n, now, now, oldest, base, sent, asked_base, asked,
      compact_at, span, slot, ceiling, expires)
    if is_new then
      redis.call('RPUSH', key, entry, state)
    elseif together then
      redis.call('LSET', key, -2, entry)
      redis.call('LSET', key, -1, state)
    else
      redis.call('LSET', key, -1, entry)
      redis.call('RPUSH', key, state)
    end
    if renewed then
      redis.call('PEXPIRE', key, expires - now + grace)
    end
  end
  return now
end

local replies = {}
local first = 1
local time
for i = 1, #ARGV do
  local message = ARGV[i]
  local mode, count, now = struct.unpack('<I2I4i7', message)
  local grace = 3600000 -- with a clock of one's own a key must outlive whatever time that tells
  if bit.band(mode, CLOCK) == 0 then
    time = time or server_time()
    now, grace = time, 0
  end
  local reply
  local plain = bit.band(mode, UNLIKE)
  if plain == TAKE or plain == LOOK then
    reply = quick(message, first, count, now, grace, bit.band(mode, 65535 - CLOCK))
  end
  if not reply then
    careful = careful or the_careful_one()
    reply = careful(message, first, now, grace)
  end
  replies[i] = reply
  first = first + count
  if bit.band(mode, ONCE) > 0 then
    first = first + 1
  end
end
if #replies == 1 then
  return replies[1]
end
return replies
