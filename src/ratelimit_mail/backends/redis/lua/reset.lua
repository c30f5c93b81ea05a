-- Forget all that logs hold. KEYS: the logs, then the sorted sets of unique recipients. ARGV[1]: the
-- number of logs. Returns 0, or the number of a key that is not a log.

local count = tonumber(ARGV[1])
must_change(KEYS[1])
local logs = event_logs()
local change = mutations(logs, 0, 0)
local opened = {}
for i = 1, count do
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
for i = count + 1, #KEYS do
  redis.pcall('DEL', KEYS[i]) -- not needed, because the generation of the log has changed
end
return 0
