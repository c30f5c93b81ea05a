-- The remembered answer to a message with an id: a text of numbers, which are the time until which
-- the answer is valid, and the reply.

local ANSWER = 'ratelimit-mail '

-- Returns until when the answer at `id` is valid, and the reply; nil if there is no value, false if
-- the value is not an answer.
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

local function store_answer(id, valid_until, reply, lifetime)
  local words = {string.format('%.0f', valid_until)}
  for i, number in ipairs(reply) do
    words[i + 1] = string.format('%.0f', number)
  end
  redis.call('SET', id, ANSWER .. table.concat(words, ' '), 'PX', lifetime)
end
