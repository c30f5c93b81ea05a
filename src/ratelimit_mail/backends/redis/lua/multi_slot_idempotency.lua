-- The remembered answer to a message whose counts are in several slots. The value at KEYS[1] is
-- `ratelimit-mail`, the time until which the answer is valid, its token and a text, with spaces in
-- between.
--
-- ARGV: the command, and the time (empty: the server's clock). The commands:
--
-- "read" returns the time and the valid value, if there is one.
-- "store" stores an answer and returns the time. If there is a valid value, "store" returns it too
--   and changes nothing; but a refusal, whose token is 0, is replaced by a charge. ARGV[3] to
--   ARGV[5]: the lifetime, the token, the text.
-- "refund" returns 1 if it is the first for a token, and lets the answer expire. ARGV[3]: the token;
--   KEYS[2]: the key that marks the refund; KEYS[3]: the key of a log.
--
-- Returns -1 if the value is not an answer.

local command, clock_time = ARGV[1], ARGV[2]
local now, grace = tonumber(clock_time), 3600000
if clock_time == '' then
  now, grace = server_time(), 0
end
local value, is_foreign = fetch('GET', KEYS[1])
if is_foreign then
  return -1
end
local valid_until, token, rest
if value then
  valid_until, token, rest = string.match(value, '^ratelimit%-mail (%-?%d+) (%d+)( {.*)$')
  if not valid_until then
    return -1
  end
end
if command == 'refund' then
  local lifetime = math.max(1, redis.call('PTTL', KEYS[3]))
  if not redis.call('SET', KEYS[2], 1, 'NX', 'PX', lifetime) then
    return 0
  end
  if value and token == ARGV[3] then
    lifetime = math.max(1, redis.call('PTTL', KEYS[1]))
    redis.call('SET', KEYS[1], 'ratelimit-mail 0 ' .. token .. rest, 'PX', lifetime)
  end
  return 1
end
local is_replaced = command == 'store' and token == '0' and ARGV[4] ~= '0'
if value and now < tonumber(valid_until) and not is_replaced then
  return {now, value}
end
if command == 'store' then
  local lifetime = tonumber(ARGV[3])
  local answer = string.format('ratelimit-mail %.0f %s %s', now + lifetime, ARGV[4], ARGV[5])
  redis.call('SET', KEYS[1], answer, 'PX', lifetime + grace)
end
return {now, false}
