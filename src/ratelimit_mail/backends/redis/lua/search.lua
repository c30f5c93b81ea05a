-- How entries are searched.

-- The first entry of `low` to `high` with a total of `target` or more. `before`, `after`: the
-- totals of the one before `low` and of `high`; `total` gives that of any.
local function reaching(total, target, low, high, before, after)
  local tries = 0
  while low < high do
    local guess = math.floor((low + high) / 2)
    if tries < 3 then -- most messages cost about the same
      guess = low - 1 + math.ceil((target - before) / (after - before) * (high - low + 1))
      guess = math.max(low, math.min(high - 1, guess))
      tries = tries + 1
    end
    local found = total(guess)
    if found >= target then
      high, after = guess, found
    else
      low, before = guess + 1, found
    end
  end
  return low
end

-- The first moment at which an event has left a window.
local function expiry(at, length, slot)
  return math.floor(at / slot) * slot + slot - 1 + length
end
