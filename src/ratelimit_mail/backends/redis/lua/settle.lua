-- Move the charges of one message to the present. ARGV[1]: the message, packed, with what it is
-- charged now. ARGV[2]: its receipt. KEYS: the logs of the message, then those of the receipt, as
-- records.lua reads them. Returns what `decide` returns.

local move, foreign_value = open_move(0, true)
if not move then
  return foreign_value
end
local now, change, receipt, before = move.now, move.change, move.receipt, move.before
local all = transaction(move.charges, nil, now)
local changed = before.take_out()
local record = {is_live = true, at = before.record.at, events = all.charge(now, change)}
all.save(change, changed)
before.store(record)
local reply = {now, now, 1, receipt.token or 0, 0}
add_record(reply, record)
return reply
