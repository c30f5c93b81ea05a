-- Move the charges of one message to the present. ARGV[1]: the message, packed, with what it is
-- charged now. ARGV[2]: its receipt. KEYS: the logs of the message, then those of the receipt, as
-- records.lua reads them. Returns what `decide` returns.

local flags, count, now = struct.unpack('<I2I4i7', ARGV[1])
local grace = 3600000
if bit.band(flags, 16) == 0 then
  now, grace = server_time(), 0
end
local logs = event_logs()
local change = mutations(logs, now, grace)
local charges, foreign_key = read_charges(ARGV[1], 1, logs)
if not charges then
  return {-1, foreign_key}
end
local receipt = read_receipt(ARGV[2], count + 1)
must_change(KEYS[1])
must_move(receipt)
local before = charges_of(receipt, logs)
if before.foreign_key then
  return {-1, before.foreign_key}
end
local all = transaction(charges, nil, now)
local changed = before.take_out()
local record = {is_live = true, at = before.record.at, events = all.charge(now, change)}
all.save(change, changed)
before.store(record)
local reply = {now, now, 1, receipt.token or 0, 0}
add_record(reply, record)
return reply
