-- Forgets all that logs hold. KEYS: the logs. Gives 0, or the number of a key that is no log.

local lib = logs()
local change = changes(lib, 0, 0)
local found = {}
for i = 1, #KEYS do
  found[i] = lib.open(KEYS[i])
  if not found[i] then
    return i
  end
end
for _, log in ipairs(found) do
  if log.expires > LONG_AGO then
    change.reset(log)
  end
end
return 0
