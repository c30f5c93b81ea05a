-- Forget all that logs hold. KEYS: the logs. Returns 0, or the number of a key that is not a log.

must_change(KEYS[1])
local logs = event_logs()
local change = mutations(logs, 0, 0)
local opened = {}
for i = 1, #KEYS do
  opened[i] = logs.open(KEYS[i])
  if not opened[i] then
    return i
  end
end
for _, log in ipairs(opened) do
  if log.expires > LONG_AGO then
    change.reset(log)
  end
end
return 0
