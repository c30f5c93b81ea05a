-- Take the charges of one message out of their logs. ARGV[1]: its receipt. KEYS: as records.lua
-- reads them.

local logs = event_logs()
local change = mutations(logs, 0, 0)
local receipt = read_receipt(ARGV[1], 1)
must_move(receipt)
local charges = charges_of(receipt, logs)
if charges.foreign_key then
  return {-1, charges.foreign_key}
elseif not charges.record.is_live then
  return 0 -- refunded already by another caller with the same id
end
charges.store({is_live = false, at = charges.record.at, events = {}})
for _, log in ipairs(charges.take_out()) do
  change.save(log)
end
return 1
