-- Takes what one message was charged out of its logs. ARGV: the token of its id, and the moments,
-- costs and generations of its charges, packed; KEYS: their logs, and behind them, where the token
-- is not 0, the key of the id and the one that tells that it was done.

local token, count, pos = struct.unpack('<I6I4', ARGV[1])
local lib = logs()
local change = changes(lib, 0, 0)
local found = {}
for i = 1, count do
  found[i] = lib.open(KEYS[i])
  if not found[i] then
    return {-1, i}
  end
end
if token > 0 then
  local id = KEYS[count + 1]
  local valid_until, reply = read_answer(id)
  if valid_until == false then
    return {-1, count + 1}
  end
  local lifetime = math.max(1, redis.call('PTTL', KEYS[1]))
  if not redis.call('SET', KEYS[count + 2], 1, 'NX', 'PX', lifetime) then
    return 0 -- somebody else asked with the same id, and has taken it out
  end
  if valid_until and reply[4] == token then -- who asks again is charged again
    keep_answer(id, 0, reply, math.max(1, redis.call('PTTL', id)))
  end
end
for _, log in ipairs(found) do
  local at, cost, generation
  at, cost, generation, pos = struct.unpack('<i7I6I2', ARGV[1], pos)
  if log.generation == generation and change.take_out(log, at, cost) then
    change.save(log)
  end
end
return 1
