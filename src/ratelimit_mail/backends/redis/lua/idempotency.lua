-- The answer to a message with an id, as a text of numbers: until when it holds, and the reply.

local ANSWER = 'ratelimit-mail '

-- Until when the answer at `id` holds, and the reply; nil where there is none, false where
-- something stands that is none.
local function read_answer(id)
  local text, is_foreign = fetch('GET', id)
  if is_foreign then
    return false
  elseif not text then
    return nil
  elseif text:sub(1, #ANSWER) ~= ANSWER then
    return false
  end
  local numbers = {}
  for number in text:sub(#ANSWER + 1):gmatch('%S+') do
    numbers[#numbers + 1] = tonumber(number)
  end
  return table.remove(numbers, 1), numbers
end

local function keep_answer(id, valid_until, reply, lifetime)
  local words = {string.format('%.0f', valid_until)}
  for i, number in ipairs(reply) do
    words[i + 1] = string.format('%.0f', number)
  end
  redis.call('SET', id, ANSWER .. table.concat(words, ' '), 'PX', lifetime)
end
