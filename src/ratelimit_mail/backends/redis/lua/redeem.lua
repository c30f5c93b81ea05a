-- Use a booking now if it fits now, or book it anew. ARGV[1]: the message, packed, with its queue.
-- ARGV[2]: its receipt. KEYS: the logs of the message, the log of the queue, the bookings of the
-- queue, then the keys of the receipt, as records.lua reads them. Returns what `decide` returns; a
-- booking that may not go has both refusals and a record.

local move, foreign_value = open_move(1)
if not move then
  return foreign_value
end
local now, grace, logs, change, count = move.now, move.grace, move.logs, move.change, move.count
local charges, queue, receipt, before = move.charges, move.queue, move.receipt, move.before
local room = availability(logs, now)
local bookings = before.bookings or bookings_of(KEYS[count + 1], queue.log, logs)
if bookings.is_foreign then
  return {-1, count + 1}
end
local record = before.record
local is_early = record.number and record.at > now

local is_spread, newest = false, now
for _, charge in ipairs(charges) do
  is_spread = is_spread or charge.schedule
  newest = math.max(newest, charge.log.newest)
end

-- Returns the message's charges on copies of their logs without the booking's own events, and
-- without those of the bookings behind it that are due before `bound`, if any is.
local function probe_without(bound)
  local removed = {record.events}
  for _, text in ipairs(bound and bookings.behind(record, bound) or {}) do
    removed[#removed + 1] = read_events(text, FIRST_EVENT)
  end
  return transaction(without(charges, removed, logs), room, now)
end

-- Returns the first moment from `start` on at which the message fits, and the refusals until then, by
-- the few bookings behind it that can matter. Windows with room beside all of them do not count.
-- Nil if all bookings behind it must be looked at.
local function find_room_quickly(start)
  local beside_all = probe_without()
  if not is_early and beside_all.earliest(start) == start and start == now then
    return now, {}
  end
  local longest, numbers, is_added = 0, {}, {}
  for _, at in ipairs({now, not is_early and start or nil}) do
    for _, number in ipairs(beside_all.without_room(at)) do
      local window = charges[number[1]].windows[number[2]]
      local name = number[1] .. ' ' .. number[2]
      if not is_added[name] then
        is_added[name] = true
        numbers[#numbers + 1] = number
        longest = math.max(longest, window.length + window.slot)
      end
    end
  end
  if #numbers == 0 then
    return nil
  end
  -- One that is early has room at its own time, or else all bookings are looked at below.
  local bound = is_early and record.at + longest + 1 or math.max(start, newest) + 2 * longest + 1
  local probe = probe_without(bound)
  local at, latest = record.at, now
  if not is_early then
    at = probe.earliest_in_windows(start, numbers)
    for _, number in ipairs(beside_all.without_room(at)) do
      if not is_added[number[1] .. ' ' .. number[2]] then
        return nil
      end
    end
    latest = at
  end
  local refusals = {}
  if at > now then
    refusals = probe.refusals(is_added)
    if #refusals == 0 then
      return nil
    end
  end
  for _, refusal in ipairs(refusals) do
    latest = math.max(latest, refusal[3])
  end
  if latest + longest > bound then
    return nil
  end
  return at, refusals
end

-- Returns the same, by all bookings behind it.
local function find_room(start)
  local probe = probe_without(math.huge)
  local at = is_early and record.at or probe.earliest(start)
  if at == now then
    return at, {}
  end
  local refusals = probe.refusals()
  return at, #refusals > 0 and refusals or probe.tightest(at)
end

-- Most often it is the first in its queue, and has room beside all bookings behind it.
local at, refusals
if bookings.surely_is_first(record, now) and probe_without().earliest(now) == now then
  at, refusals = now, {}
else
  local start = math.max(now, bookings.last_ahead(record, now))
  if not is_spread and not bookings.is_last(record) then
    at, refusals = find_room_quickly(start)
  end
  if not at then
    at, refusals = find_room(start)
  end
end
if not is_early then
  local all = transaction(charges, room, now)
  local changed = before.take_out()
  record = {is_live = true, at = at, events = all.charge(at, change)}
  if at > now then
    record.number = before.record.number or bookings.number_ahead()
    local event = transaction({queue}, room, now).charge(at, change)[1]
    bookings.add(record, event, now, grace)
    changed[#changed + 1] = queue.log
  end
  all.save(change, changed)
  before.store(record)
end
local reply = {now, at, 1, receipt.token or 0, #refusals}
for _, refusal in ipairs(refusals) do
  for i = 1, 4 do
    reply[#reply + 1] = refusal[i]
  end
end
add_record(reply, record)
return reply
