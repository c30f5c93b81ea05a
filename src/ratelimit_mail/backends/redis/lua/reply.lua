-- The end of the reply on a message that was charged.

-- Adds the place of a record in its queue and its events to a reply. What an event has changed for
-- unique recipients follows the generation of its log, which then begins with m.
local function add_record(reply, record)
  local size = #reply
  reply[size + 1], reply[size + 2], reply[size + 3] =
    record.number and 1 or 0, record.number or 0, record.at
  for i, event in ipairs(record.events) do
    local place = size + 4 * i
    reply[place], reply[place + 1], reply[place + 2], reply[place + 3] =
      event.charge or event.key, event.moment, event.cost,
      event.members and 'm' .. event.generation:sub(2) .. event.members or event.generation
  end
end
