-- Change a register. KEYS[1]: a hash. ARGV: how many fields are removed, these, and then the others,
-- each with its value. Returns -1 if the value is not a hash.

must_run('HDEL', KEYS[1], '')
must_run('HSET', KEYS[1], '', '')
local _, is_foreign = fetch('HLEN', KEYS[1])
if is_foreign then
  return -1
end
local removed = tonumber(ARGV[1])
for i = 2, removed + 1, 1000 do
  redis.call('HDEL', KEYS[1], unpack(ARGV, i, math.min(i + 999, removed + 1)))
end
for i = removed + 2, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return 0
