-- The remembered answer to a message whose counts are in several slots. The value at KEYS[1] is
-- `ratelimit-mail`, the time until which the answer is valid, its token and a text, with spaces in
-- between. KEYS[2], once it exists, has the place of that text for the callers that have a token:
-- `ratelimit-mail` and the text; no text while its charges are being moved, or if they are refunded.
--
-- ARGV: the command, and the time (empty: the server's clock). The commands:
--
-- "read" returns the time and the valid value, if there is one.
-- "store" stores an answer and returns the time. If there is a valid value, "store" returns it too
--   and changes nothing; but a refusal, whose token is 0, is replaced by a charge. ARGV[3] to
--   ARGV[5]: the lifetime, the token, the text.
-- "take" returns the text with what a token's charges are now: 0 if there are none, 1 if the caller
--   knows them. Until "put" nobody else gets them. ARGV[3]: the token; ARGV[4]: "refund" lets the
--   answer expire; KEYS[3]: the key of a log.
-- "put" stores a new text for a token. ARGV[3]: the token; ARGV[4]: the text; KEYS[3] as before.
--
-- Returns -1 if the value is not an answer.

local command, clock_time = ARGV[1], ARGV[2]
local now, grace = tonumber(clock_time), 3600000
if clock_time == '' then
  now, grace = server_time(), 0
end
if command ~= 'read' then
  must_run('SET', KEYS[1], '')
  must_run('PTTL', KEYS[1])
  must_run('PEXPIRE', KEYS[1], 1)
end
local value, is_foreign = fetch('GET', KEYS[1])
if is_foreign then
  return -1
end
local valid_until, token, text
if value then
  valid_until, token, text = string.match(value, '^ratelimit%-mail (%-?%d+) (%d+) ({.*)$')
  if not valid_until then
    return -1
  end
end

local function store(new_valid_until, new_token, new_text, lifetime)
  local answer = string.format('ratelimit-mail %s %s %s', new_valid_until, new_token, new_text)
  redis.call('SET', KEYS[1], answer, 'PX', math.max(1, lifetime))
end

if command == 'take' or command == 'put' then
  local has_answer = value and token == ARGV[3]
  local lifetime = math.max(1, redis.call('PTTL', KEYS[3]))
  if command == 'put' then
    if has_answer and valid_until ~= '0' then
      store(valid_until, token, ARGV[4], math.max(lifetime, redis.call('PTTL', KEYS[1])))
      redis.call('PEXPIRE', KEYS[2], 0)
    else
      redis.call('SET', KEYS[2], 'ratelimit-mail ' .. ARGV[4], 'PX', lifetime)
    end
    return 1
  end
  local moved = fetch('GET', KEYS[2])
  redis.call('SET', KEYS[2], 'ratelimit-mail', 'PX', lifetime)
  if has_answer and ARGV[4] == 'refund' then
    store('0', token, text, redis.call('PTTL', KEYS[1]))
  end
  if moved then
    return string.match(moved, '^ratelimit%-mail ({.*)$') or 0
  end
  return has_answer and text or 1
end
local is_replaced = command == 'store' and token == '0' and ARGV[4] ~= '0'
if value and now < tonumber(valid_until) and not is_replaced then
  return {now, value}
end
if command == 'store' then
  local lifetime = tonumber(ARGV[3])
  store(string.format('%.0f', now + lifetime), ARGV[4], ARGV[5], lifetime + grace)
end
return {now, false}
