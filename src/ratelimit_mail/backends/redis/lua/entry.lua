-- How an entry is packed: a moment, what was sent and what was asked for by then.
--
-- Of these it has the lowest bytes alone: they follow the log's oldest moment, and the totals of
-- entry 0, by less than 2 ^ 40 milliseconds and 2 ^ 32. One that follows by more has them whole. The
-- formats stand where they are used, because what a function takes from around it is paid for by
-- each call of the script.

local function write_entry(at, sent, asked, oldest, asked_base)
  if at - oldest >= 2 ^ 40 or asked - asked_base >= 2 ^ 32 then
    return struct.pack('<i7I6I6', at, sent, asked)
  elseif sent == asked then
    return struct.pack('<I5I4', at, sent)
  end
  return struct.pack('<I5I4I4', at, sent, asked)
end

-- The moment and the totals; `oldest`, `base`, `asked_base` as they are stored with the entry.
local function read_entry(entry, oldest, base, asked_base)
  local size = #entry
  if size == 19 then
    return struct.unpack('<i7I6I6', entry)
  end
  local at, sent, asked = struct.unpack(size == 9 and '<I5I4' or '<I5I4I4', entry)
  at, sent = oldest + (at - oldest) % 2 ^ 40, base + (sent - base) % 2 ^ 32
  if size == 9 then
    return at, sent, sent
  end
  return at, sent, asked_base + (asked - asked_base) % 2 ^ 32
end
