-- What the scripts begin with that move the charges of one message: settle, redeem and move.
-- ARGV[1]: the message, packed. ARGV[2]: its receipt. KEYS: the logs of the message, then `others`
-- keys of the script, then those of the receipt, as records.lua reads them.

-- Returns the fields of the message, its logs and its receipt, once it is certain that the user may
-- change them; or nil and the reply, if a value was not stored by this library. `is_settled`: nothing
-- is decided.
local function open_move(others, is_settled)
  local flags, count, now, _, start = struct.unpack(HEADER, ARGV[1])
  local grace = 3600000
  if bit.band(flags, 16) == 0 then -- CLOCK
    now, grace = server_time(), 0
  end
  local logs = event_logs()
  local charges, queue = read_charges(ARGV[1], 1, logs, is_settled)
  if not charges then
    return nil, {-1, queue}
  end
  local receipt = read_receipt(ARGV[2], count + others + 1)
  must_change(KEYS[1])
  must_move(receipt)
  local before = charges_of(receipt, logs)
  if before.foreign_key then
    return nil, {-1, before.foreign_key}
  end
  return {
    flags = flags, count = count, now = now, start = start, grace = grace, logs = logs,
    change = mutations(logs, now, grace), charges = charges, queue = queue, receipt = receipt,
    before = before,
  }
end
