-- Take the keys from the arguments. A node of a cluster accepts the keys of several of its slots only
-- so. It refuses a key of a slot that it no longer has when the script first reads it.
-- ARGV: the number of keys, the keys, and then the arguments.

local KEYS, ARGV = (function(words)
  local keys, arguments, size = {}, {}, tonumber(words[1])
  for i = 1, size do
    keys[i] = words[i + 1]
  end
  for i = size + 2, #words do
    arguments[i - size - 1] = words[i]
  end
  return keys, arguments
end)(ARGV)
