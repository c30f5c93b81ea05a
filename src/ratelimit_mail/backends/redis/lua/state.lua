-- The state of a log. It is the last element of the list that stores the log of one count. A log that
-- has or had bookings may have a tail behind it: the number of records of full.lua, these, and then
-- those of shifts.lua.
--
-- The list has the entries, oldest first, and then the state. An entry is a moment and the running
-- totals after it: what was sent and, if that is more, what was attempted, refused attempts
-- included. Entry 0 stands for all that was forgotten. The generation of a log names it: a reset
-- gives it another one, and a log that is made after a loss of data has another one too, so that what
-- was charged before cannot be refunded afterwards.

local STATE, STATE_SIZE, MARK = '<I4c12I4i7i7i7i6i6i6i6I4I6I6I6i7', 94, 0x336d6c72 -- rlm3
local LONG_AGO = -18014398509481984
local LARGEST_TOTAL = 2 ^ 46 -- above this, running totals are lowered before they are stored

local function is_state(value)
  return type(value) == 'string' and #value >= STATE_SIZE and value:sub(1, 4) == 'rlm3'
end

-- Returns a new generation: 12 characters, which are not a number. By the server's clock, because no
-- two scripts run at once.
local function new_generation()
  local time = server_microseconds()
  return string.format('g%05x%06x', math.floor(time / 2 ^ 24) % 2 ^ 20, time % 2 ^ 24)
end

-- Returns whether `n` entries may be more than needed for what they record.
local function is_compactable(n, span, slot, refused)
  return refused > 0 or n * slot > 2 * span
end
