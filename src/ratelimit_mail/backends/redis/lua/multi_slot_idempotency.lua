-- The answer to a message whose counts stand in several slots, at KEYS[1]: `ratelimit-mail`, until
-- when it holds, its token and a text. ARGV: what to do; the time, or nothing for the server's; for
-- "keep" the lifetime, the token and the text; for "drop" the token, and in KEYS the key that tells
-- that it was done and that of a log. "keep" leaves what is there and still holds, but a refusal,
-- whose token is 0, gives way to a charge; both it and "tell" give the time and what was there.
-- "drop" gives 1 where nobody else has dropped it. -1: something stands there that is no answer.

local what, given = ARGV[1], ARGV[2]
local now, grace = tonumber(given), 3600000
if given == '' then
  now, grace = server_time(), 0
end
local kept, is_foreign = fetch('GET', KEYS[1])
if is_foreign then
  return -1
end
local valid_until, token, rest
if kept then
  valid_until, token, rest = string.match(kept, '^ratelimit%-mail (%-?%d+) (%d+)( {.*)$')
  if not valid_until then
    return -1
  end
end
if what == 'drop' then
  local lifetime = math.max(1, redis.call('PTTL', KEYS[3]))
  if not redis.call('SET', KEYS[2], 1, 'NX', 'PX', lifetime) then
    return 0
  end
  if kept and token == ARGV[3] then
    lifetime = math.max(1, redis.call('PTTL', KEYS[1]))
    redis.call('SET', KEYS[1], 'ratelimit-mail 0 ' .. token .. rest, 'PX', lifetime)
  end
  return 1
end
local gives_way = what == 'keep' and token == '0' and ARGV[4] ~= '0'
if kept and now < tonumber(valid_until) and not gives_way then
  return {now, kept}
end
if what == 'keep' then
  local lifetime = tonumber(ARGV[3])
  local value = string.format('ratelimit-mail %.0f %s %s', now + lifetime, ARGV[4], ARGV[5])
  redis.call('SET', KEYS[1], value, 'PX', lifetime + grace)
end
return {now, false}
