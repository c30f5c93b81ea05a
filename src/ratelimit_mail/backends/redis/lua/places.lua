-- The bookings of a queue, for messages whose counts are in several slots: the caller changes the
-- other slots. KEYS: the log of the queue, its bookings. ARGV: the time (empty: the server's clock),
-- the command and its arguments. The commands:
--
-- "look" returns the time; whether a booking stands in the queue; its time; when the last of the
--   bookings ahead is due; the number of its events; these, and those of the bookings behind it:
--   key, moment, cost, generation. ARGV[3]: its number, or nothing; ARGV[4]: its time.
-- "remove" removes a booking, and returns 1 if it was there. ARGV[3]: its number.
-- "add" adds a booking, and returns its number. ARGV[3]: its number, "last" or "first"; ARGV[4]: its
--   record, as records.lua packs it; ARGV[5]: what the queue's log is charged for it, and what that
--   retains; or the moment and the generation, if it has been charged.
--
-- Returns -1 and the number of a key whose value was not stored by this library.

local now, grace = tonumber(ARGV[1]), 3600000
if ARGV[1] == '' then
  now, grace = server_time(), 0
end
local command = ARGV[2]
local logs = event_logs()
local change = mutations(logs, now, grace)
local cost, span, slot, ceiling, is_charged, moment, generation
if command == 'add' then
  cost, span, slot, ceiling, is_charged, moment, generation = struct.unpack('<I6I6I6I6Bi7c12', ARGV[5])
end
local log = logs.open(KEYS[1], span, slot, ceiling)
if not log then
  return {-1, 1}
end
if command ~= 'look' then
  must_change(KEYS[1])
  must_change_bookings(KEYS[2])
end
local bookings = bookings_of(KEYS[2], log, logs)
if bookings.is_foreign then
  return {-1, 2}
end
if command == 'look' then
  local record = {number = tonumber(ARGV[3]), at = tonumber(ARGV[4])}
  local own = record.number and bookings.get(record.number)
  record.at = own and own.at or record.at
  local reply = {now, own and 1 or 0, record.at, bookings.last_ahead(record, now), own and #own.events or 0}
  local function add(events)
    for _, event in ipairs(events) do
      local size = #reply
      reply[size + 1], reply[size + 2], reply[size + 3], reply[size + 4] =
        event.key, event.moment, event.cost,
        event.members and 'm' .. event.generation:sub(2) .. event.members or event.generation
    end
  end
  add(own and own.events or {})
  for _, text in ipairs(bookings.behind(record, math.huge)) do
    add(read_events(text, FIRST_EVENT))
  end
  return reply
end
if command == 'remove' then
  local own = bookings.get(tonumber(ARGV[3]))
  if not own then
    return 0
  end
  bookings.remove(own)
  change.save(log)
  return 1
end
local record = read_record(ARGV[4], 1)
record.number = tonumber(ARGV[3])
if ARGV[3] == 'first' then
  record.number = bookings.number_ahead()
end
local queue_event = {moment = moment, cost = cost, generation = generation}
if is_charged == 0 then
  queue_event.moment = change.book(log, record.at, cost)
  queue_event.generation = log.generation
end
bookings.add(record, queue_event, now, grace)
if is_charged == 0 or log.last_needed then
  change.save(log)
end
return record.number
