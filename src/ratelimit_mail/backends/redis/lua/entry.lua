-- The format of an entry: a moment, and what was sent and what was attempted by then.
--
-- An entry has only the lowest bytes of these numbers. They are complete because they follow the
-- log's oldest moment by less than 2 ^ 40 milliseconds, and the totals of entry 0 by less than
-- 2 ^ 32. An entry that follows by more has all bytes. The formats are written where they are used,
-- because each call of the script pays for every local that a function captures.

local function write_entry(at, sent, attempted, oldest, attempted_base)
  if at - oldest >= 2 ^ 40 or attempted - attempted_base >= 2 ^ 32 then
    return struct.pack('<i7i6i6', at, sent, attempted)
  elseif sent == attempted then
    return struct.pack('<I5I4', at, sent)
  end
  return struct.pack('<I5I4I4', at, sent, attempted)
end

-- Returns the moment and the totals. `oldest`, `base`, `attempted_base`: as stored with the entry.
-- `shifts`: nil, or what is added to the stored totals.
local function read_entry(entry, oldest, base, attempted_base, shifts)
  local size = #entry
  local at, sent, attempted, more, more_attempted
  if size == 19 then
    at, sent, attempted = struct.unpack('<i7i6i6', entry)
    if shifts then
      more, more_attempted = shift_at(shifts, at)
      return at, sent + more, attempted + more_attempted
    end
    return at, sent, attempted
  end
  at, sent, attempted = struct.unpack(size == 9 and '<I5I4' or '<I5I4I4', entry)
  at = oldest + (at - oldest) % 2 ^ 40
  if shifts then
    more, more_attempted = shift_at(shifts, at)
    if size == 9 then
      attempted = sent
    end
    return at, base + (sent + more - base) % 2 ^ 32,
      attempted_base + (attempted + more_attempted - attempted_base) % 2 ^ 32
  end
  sent = base + (sent - base) % 2 ^ 32
  if size == 9 then
    return at, sent, sent
  end
  return at, sent, attempted_base + (attempted - attempted_base) % 2 ^ 32
end
