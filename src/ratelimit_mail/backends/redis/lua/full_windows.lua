-- Which windows of a log are full, where nothing is booked.

-- Adds those that have no room to the reply that refuses, as ruling.lua describes it.
local function add_full(reply, number, key, state, cost, message, pos, windows)
  local _, _, n, _, _, oldest, base, sent, asked_base, asked = struct.unpack(STATE, state)
  for w = 0, windows - 1 do
    local limit, length, slot, denied = struct.unpack(WINDOW, message, pos + w * WINDOW_SIZE)
    local function read(i)
      return read_entry(redis.call('LINDEX', key, i - 1), oldest, base, asked_base)
    end
    local function total(i)
      local _, sent_by_then, asked_by_then = read(i)
      return denied > 0 and asked_by_then or sent_by_then
    end
    local before, after = base, sent
    if denied > 0 then
      before, after = asked_base, asked
    end
    -- So much of the oldest must have left; often it is the very first.
    local target = after - (limit - cost)
    if before < target then
      local gone = reaching(total, target, 1, n, before, after)
      local at = expiry(gone == 1 and oldest or read(gone), length, slot)
      if at > reply[1] then
        reply[2], reply[5] = math.max(reply[2], at), reply[5] + 1
        local size = #reply
        reply[size + 1], reply[size + 2], reply[size + 3], reply[size + 4] = number, w, at, 0
      end
    end
  end
end
