-- Search the entries of a log.

-- Returns the first entry from `low` to `high` with a total of at least `target`. `total`: returns
-- the total of an entry. `before`, `after`: the totals of the entry before `low` and of `high`.
local function first_with_total(total, target, low, high, before, after)
  local tries = 0
  while low < high do
    local guess = math.floor((low + high) / 2)
    if tries < 3 then -- interpolate: most messages cost about the same
      guess = low - 1 + math.ceil((target - before) / (after - before) * (high - low + 1))
      guess = math.max(low, math.min(high - 1, guess))
      tries = tries + 1
    end
    local total_by_then = total(guess)
    if total_by_then >= target then
      high, after = guess, total_by_then
    else
      low, before = guess + 1, total_by_then
    end
  end
  return low
end

-- Returns the first moment at which an event has left a sliding window.
local function expiry(at, length, slot)
  return math.floor(at / slot) * slot + slot - 1 + length
end
