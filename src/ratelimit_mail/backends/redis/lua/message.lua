-- The format of a packed message: a header, then each charge with its windows.
--
-- The header: the flags, the number of charges, the time (if the backend has a clock), the most
-- milliseconds that a booking may be ahead (-1: any number), the first moment to consider, how long
-- the answer to the id is remembered, and the token of that answer.
--
-- A charge: its cost, the smallest limit, what its log retains (span, slot, ceiling), whether
-- refused attempts count (1) and whether it is of unique recipients (2), and the number of records of
-- its windows; after the windows come the digests of these recipients. A window has one record: its
-- limit, its length, its resolution, and its flags: 1 if refused attempts count, 2 if it spreads a
-- cost above its limit, 4 if it is a period of a calendar. Such a window has more records, in which
-- are their number, the number of stretches, and the stretches: when periods begin. See windows.lua.
--
-- A message to unique recipients ends with the number of sorted sets that it needs, whose keys follow
-- all its others. The smallest limit of such a charge is 0, so that `decide` looks at its recipients.

local HEADER, HEADER_SIZE = '<I2I4i7i7i7I6I6', 39
local CHARGE, CHARGE_SIZE = '<I6I6I6I6I6BI2', 33
local WINDOW, WINDOW_SIZE = '<I6I6I6B', 19

-- The flags; codec.py says what each means. CLOCK is 16; HAS_START, 512, is not needed here; RECALL
-- and ENQUEUE are where they are used, and UNIQUE, 4096.
local RECORD, REFUSED, QUEUE, BOOK, IDEMPOTENT = 1, 2, 4, 8, 32
local DENIALS_UNCOUNTED, AT_START_ONLY, LEAST_REMAINING = 64, 128, 256
