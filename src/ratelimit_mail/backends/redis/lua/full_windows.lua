-- Find the full windows of a log that has no bookings.

local calendars -- what windows.lua defines; scripts.py puts it in place of the call that loads it

-- Adds the windows without room to a refusing reply, in the format that decide.lua documents.
local function add_full_windows(reply, number, key, state, cost, message, pos, windows)
  local _, _, n, _, _, oldest, base, sent, attempted_base, attempted = struct.unpack(STATE, state)
  local w, stop = 0, pos + windows * WINDOW_SIZE
  while pos < stop do
    local limit, length, slot, window_flags, next = struct.unpack(WINDOW, message, pos)
    local calendar_window
    if window_flags >= 4 then
      calendars = calendars or load_calendars()
      calendar_window, next = calendars.read_window(message, pos)
    end
    local denied = window_flags % 2
    local function read(i)
      return read_entry(redis.call('LINDEX', key, i - 1), oldest, base, attempted_base)
    end
    local function total(i)
      local _, sent_by_then, attempted_by_then = read(i)
      return denied > 0 and attempted_by_then or sent_by_then
    end
    local before, after = base, sent
    if denied > 0 then
      before, after = attempted_base, attempted
    end
    -- The oldest entries up to this total must leave; often that is only the first.
    local target = after - (limit - cost)
    if before < target then
      local leaving = first_with_total(total, target, 1, n, before, after)
      local event = leaving == 1 and oldest or read(leaving)
      local at = calendar_window and calendars.leaves_at(calendar_window, event)
        or expiry(event, length, slot)
      if at > reply[1] then
        reply[2], reply[5] = math.max(reply[2], at), reply[5] + 1
        local size = #reply
        reply[size + 1], reply[size + 2], reply[size + 3], reply[size + 4] = number, w, at, 0
      end
    end
    w, pos = w + 1, next
  end
end
