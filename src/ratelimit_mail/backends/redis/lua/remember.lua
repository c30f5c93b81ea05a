-- The answer to a message whose counts stand in several slots: `until token text` at KEYS[1].
-- ARGV: what to do, the time or nothing for the server's, and for "keep" the lifetime, token and
-- text, for "drop" the token. "keep" keeps what is there already; both it and "tell" give the time and
-- what was there. "drop" gives 1 where nobody else has dropped it.

local what, given = ARGV[1], ARGV[2]
local now, grace = tonumber(given), 3600000
if given == '' then
  local time = redis.call('TIME')
  now, grace = time[1] * 1000 + math.floor(time[2] / 1000), 0
end
local kept = redis.call('GET', KEYS[1])
local until_, token
if kept then
  until_, token = string.match(kept, '^(%-?%d+) (%d+) ')
end
if what == 'drop' then
  if not kept then
    return 1
  elseif token ~= ARGV[3] or until_ == '0' then
    return 0
  end
  local rest = string.match(kept, ' .*$')
  redis.call('SET', KEYS[1], '0' .. rest, 'PX', math.max(1, redis.call('PTTL', KEYS[1])))
  return 1
end
if kept and now < tonumber(until_) then
  return {now, kept}
end
if what == 'keep' then
  local lifetime = tonumber(ARGV[3])
  local value = string.format('%.0f %s %s', now + lifetime, ARGV[4], ARGV[5])
  redis.call('SET', KEYS[1], value, 'PX', lifetime + grace)
end
return {now, false}
