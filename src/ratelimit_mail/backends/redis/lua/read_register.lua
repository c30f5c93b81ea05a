-- Read a register. KEYS[1]: a hash. ARGV[1]: the time (empty: the server's clock). Returns the time
-- and the fields of the hash with their values; or -1 if the value is not a hash.

local fields, is_foreign = fetch('HGETALL', KEYS[1])
if is_foreign then
  return -1
end
return {ARGV[1] == '' and server_time() or tonumber(ARGV[1]), fields}
