-- How a key is read at which something else may stand.

-- What a command reads at a key; and true where something of another type stands there.
local function fetch(command, key, ...)
  local found = redis.pcall(command, key, ...)
  if type(found) ~= 'table' then
    return found, false
  elseif not string.find(found.err, 'WRONGTYPE') then
    redis.call(command, key, ...) -- raises the error that it is
  end
  return nil, true
end
