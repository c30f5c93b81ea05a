-- How a message is packed: a header, then its charges with their windows each.

local HEADER, HEADER_SIZE = '<I2I4i7i7i7I6I6', 39
local CHARGE, WINDOW, WINDOW_SIZE = '<I6I6I6I6I6BI2', '<I6I6I6B', 19
local RECORD, REFUSED, LINE, BOOK, ONCE, QUIET, EXACT, ROOM = 1, 2, 4, 8, 32, 64, 128, 256

-- (CLOCK is 16; LATER, 512, says that the first moment to look at is not now.)
--
-- The header: flags, the number of charges, the time where a clock gives it, the most milliseconds
-- that a booking may lie ahead (-1: any number), the first moment to look at, how long the answer
-- to its id is remembered, and the token of that.
--
-- A charge: its cost, the smallest limit, what its log keeps (span, slot, ceiling), whether refused
-- attempts count, and how many windows follow, each with limit, length, resolution and the same.
