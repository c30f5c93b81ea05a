-- Redeem the part of a booking that is in one slot. ARGV[1]: the message, packed. ARGV[2]: the
-- receipt of what the booking holds here. ARGV[3]: the events of the bookings behind it, as a
-- receipt. KEYS: the logs of the message, then the keys of both receipts. The check leaves out all
-- of these events. Returns what `decide` returns; charges only at the first moment to consider.

local move, foreign_value = open_move(0)
if not move then
  return foreign_value
end
local flags, now, start, logs, change = move.flags, move.now, move.start, move.logs, move.change
local charges, receipt, before = move.charges, move.receipt, move.before
local room = availability(logs, now)
local behind = read_receipt(ARGV[3], receipt.next)
local probes = without(charges, {receipt.record.events, behind.record.events}, logs)
local probe = transaction(probes, room, now)

local function reply(at, refusals)
  local answer = {now, at, 0, 0, #refusals}
  for _, refusal in ipairs(refusals) do
    for i = 1, 4 do
      answer[#answer + 1] = refusal[i]
    end
  end
  return answer
end

if bit.band(flags, LEAST_REMAINING) > 0 then
  local least = probe.tightest(now)
  return reply(least[1] and least[1][4] or 0, least)
end
local from = math.max(now, start)
local at = probe.earliest(from)
if bit.band(flags, RECORD) == 0 or at > from then
  return reply(at, probe.refusals())
end
local all = transaction(charges, room, now)
local changed = before.take_out()
local record = {is_live = true, at = at, events = all.charge(at, change)}
all.save(change, changed)
local answer = {now, at, 1, 0, 0}
add_record(answer, record)
return answer
