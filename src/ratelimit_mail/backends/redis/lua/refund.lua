-- Take the charges of one message out of their logs. ARGV[1]: the token of its id, and the moments,
-- costs and generations of its charges, packed. KEYS: the logs; then, if the token is not 0, the key
-- of the id and the key that marks the refund.

local token, count, pos = struct.unpack('<I6I4', ARGV[1])
local logs = event_logs()
local change = mutations(logs, 0, 0)
local opened = {}
for i = 1, count do
  opened[i] = logs.open(KEYS[i])
  if not opened[i] then
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
    return 0 -- refunded already by another caller with the same id
  end
  if valid_until and reply[4] == token then -- the next call with the id is charged again
    store_answer(id, 0, reply, math.max(1, redis.call('PTTL', id)))
  end
end
for _, log in ipairs(opened) do
  local at, cost, generation
  at, cost, generation, pos = struct.unpack('<i7I6I2', ARGV[1], pos)
  if log.generation == generation and change.refund(log, at, cost) then
    change.save(log)
  end
end
return 1
