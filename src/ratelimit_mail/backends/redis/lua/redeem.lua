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

-- Most often it is the first in its queue, and has room beside all bookings behind it.
local fits_now = bookings.surely_is_first(record, now)
  and transaction(without(charges, {record.events}, logs), room, now).earliest(now) == now
local last_ahead, behind = now, {times = {}, texts = {}}
if not fits_now then
  last_ahead, behind = bookings.neighbours(record)
end

-- How long a window is that may lack room: what is held does not matter to a count that has room for
-- all of it. Bookings later than that do not matter to the present.
local longest, newest, is_spread = 0, now, false
for _, charge in ipairs(charges) do
  local log = charge.log
  newest = math.max(newest, log.newest)
  is_spread = is_spread or charge.schedule
  if log.attempted - log.attempted_base + charge.cost > charge.smallest then
    for _, window in ipairs(charge.windows) do
      longest = math.max(longest, window.length + window.slot)
    end
  end
end

-- Returns the message's charges on copies of their logs without the booking's own events, and
-- without those of the bookings behind it whose time is before `bound`.
local function without_behind(bound)
  local removed = {record.events}
  for i, at in ipairs(behind.times) do
    if at < bound then
      removed[#removed + 1] = read_events(behind.texts[i], FIRST_EVENT)
    end
  end
  return transaction(without(charges, removed, logs), room, now)
end

-- Returns the first moment from `start` on at which the message fits, and the refusals until then.
-- Leaves out the bookings before `bound`. Also returns whether others cannot matter.
local function find_room(start, bound)
  local probe = without_behind(bound)
  local at = is_early and record.at or probe.earliest(start)
  if at == now then
    return at, {}, at + longest <= bound
  end
  local refusals = probe.refusals()
  local latest = is_early and now or at
  for _, refusal in ipairs(refusals) do
    latest = math.max(latest, refusal[3])
  end
  if #refusals == 0 then
    return at, probe.tightest(at), false
  end
  return at, refusals, latest + longest <= bound
end

local start = math.max(now, last_ahead)
local at, refusals, is_certain = now, {}, fits_now
if not fits_now and not is_spread then
  at, refusals, is_certain = find_room(start, math.max(start, newest) + 2 * longest + 1)
end
if not is_certain then
  at, refusals = find_room(start, math.huge)
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
