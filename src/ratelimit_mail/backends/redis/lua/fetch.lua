-- Read a key that may hold a value of another program.

-- Returns the reply of a command that reads a key, and whether the value is of another type.
local function fetch(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' then
    return reply, false
  elseif not string.find(reply.err, 'WRONGTYPE') then
    redis.call(command, key, ...) -- raises the error
  end
  return nil, true
end
