-- Changes: what is recorded, refused, booked and taken out of a log.

-- The functions that change logs; `grace`: milliseconds that a key outlives its use.
local function changes(lib, now, grace)
  local floor, max, min = math.floor, math.max, math.min
  local call = redis.call
  local time, total, own, upto = lib.time, lib.total, lib.own, lib.upto

  -- Let go of what has left every window by `present`, and let time not fall back to it.
  local function forget(log, present)
    if log.n > 0 and log.oldest <= present - log.span then
      log.trim = upto(log, present - log.span, 0, log.n)
    end
    if log.trim > 0 then
      log.newest = max(log.newest, time(log, log.trim) + log.span)
    end
  end

  -- Keep as one what no window can tell apart, so that memory stays bounded: what stands in one
  -- slot, and refused attempts so old that those after them fill the largest limit.
  local function compact(log, present)
    own(log, 1)
    local past = upto(log, present, 0, log.n)
    local refused = total(log, past, true) - total(log, past)
    local t, s, a, kept = {}, {}, {}, 0
    local base, asked_base = total(log, log.trim), total(log, log.trim, true)
    for i = log.trim + 1, log.n do
      local merged, outweighed = false, false
      if i <= past then
        merged = kept > 0 and floor(t[kept] / log.slot) == floor(log.t[i] / log.slot)
        outweighed = log.s[i] == total(log, i - 1)
          and refused - (log.a[i] - log.s[i]) >= log.ceiling
      end
      if not merged and not outweighed then
        kept = kept + 1
      end
      if kept == 0 then
        base, asked_base = log.s[i], log.a[i]
      else
        t[kept] = not merged and outweighed and t[kept] or log.t[i]
        s[kept], a[kept] = log.s[i], log.a[i]
      end
    end
    if past > 0 then
      log.newest = max(log.newest, log.t[past])
    end
    log.t, log.s, log.a, log.n, log.trim = t, s, a, kept, 0
    log.base, log.asked_base = base, asked_base
    log.oldest, log.last = t[1] or LONG_AGO, t[kept] or LONG_AGO
  end

  -- Put an event into its place in time, before whatever is booked after it.
  local function enter(log, at, present, sent, asked)
    local i = log.last <= at and log.n or upto(log, at, 0, log.n)
    local last = i > log.trim and time(log, i)
    if last and (last == at or at <= present and floor(last / log.slot) == floor(at / log.slot))
    then
      own(log, i)
      log.t[i] = at
      i = i - 1
    else
      own(log, i + 1)
      for j = log.n, i + 1, -1 do
        log.t[j + 1], log.s[j + 1], log.a[j + 1] = log.t[j], log.s[j], log.a[j]
      end
      log.t[i + 1], log.s[i + 1], log.a[i + 1] = at, total(log, i), total(log, i, true)
      log.n = log.n + 1
    end
    for j = i + 1, log.n do
      log.s[j], log.a[j] = log.s[j] + sent, log.a[j] + asked
    end
    log.sent, log.asked = log.sent + sent, log.asked + asked
    log.last = max(log.last, at)
    log.oldest = i == 0 and at or log.oldest
    forget(log, present)
    if log.n >= log.compact_at then
      local refused = log.asked - log.asked_base - log.sent + log.base
      if is_compactable(log.n, log.span, log.slot, refused) then
        compact(log, present)
      end
      log.compact_at = 2 * log.n + 64
    end
  end

  -- Record what is sent now, or will be at `at`; gives the moment at which it stands.
  local function book(log, at, cost)
    local present = max(now, log.newest)
    if at <= present then
      log.newest, at = present, present
    end
    enter(log, at, present, cost, cost)
    return at
  end

  -- Record what was asked for and refused now.
  local function refuse(log, cost)
    log.newest = max(now, log.newest)
    enter(log, log.newest, log.newest, 0, cost)
  end

  -- Take out what stands at `at`; false where it has left.
  local function take_out(log, at, cost)
    local i = upto(log, at - 1, 0, log.n) + 1
    if i > log.n or at <= log.newest - log.span
      or floor(time(log, i) / log.slot) ~= floor(at / log.slot)
    then
      return false
    end
    own(log, i)
    local kept, n = i - 1, log.n
    for j = i, n do
      local s, a = log.s[j] - cost, log.a[j] - cost
      if s ~= total(log, kept) or a ~= total(log, kept, true) then
        kept = kept + 1
        log.t[kept], log.s[kept], log.a[kept] = log.t[j], s, a
      end
    end
    log.n, log.sent, log.asked = kept, log.sent - cost, log.asked - cost
    return true
  end

  local function save(log)
    local first = log.from
    local n = log.n - log.trim
    local last = n > 0 and time(log, log.n) or LONG_AGO
    local oldest = n > 0 and time(log, log.trim + 1) or LONG_AGO
    if log.trim > 0 then
      log.base, log.asked_base = total(log, log.trim), total(log, log.trim, true)
    end
    local written = {}
    for i = first, log.n do
      written[#written + 1] =
        write_entry(log.t[i], log.s[i], log.a[i], oldest, log.asked_base)
    end
    local needed, is_new = max(log.newest, last) + log.span, log.expires == LONG_AGO
    local renewed = needed > log.expires
    if renewed then
      log.expires = needed + floor(log.span / 8)
    end
    written[#written + 1] = struct.pack(STATE, MARK, log.generation, n, log.newest, last, oldest,
      log.base, log.sent, log.asked_base, log.asked, log.compact_at, log.span, log.slot,
      log.ceiling, log.expires)
    local next = 1
    if not is_new then -- something of it always stays, or the key would lose its expiry
      if first <= log.stored then
        call('LTRIM', log.key, 0, first - 1)
      end
      call('LSET', log.key, -1, written[1])
      next = 2
    end
    for i = next, #written, 1000 do
      call('RPUSH', log.key, unpack(written, i, min(i + 999, #written)))
    end
    if log.trim > 0 then
      call('LTRIM', log.key, log.trim, -1)
    end
    if renewed then
      call('PEXPIRE', log.key, log.expires - now + grace)
    end
  end

  -- Forget everything; the key stays until what it held could not matter any more.
  local function reset(log)
    log.n, log.trim, log.from = 0, 0, 1
    log.newest, log.base, log.sent, log.asked_base, log.asked = LONG_AGO, 0, 0, 0, 0
    log.compact_at, log.generation = 64, (log.generation + 1) % 65536
    save(log)
  end

  return {book = book, refuse = refuse, take_out = take_out, reset = reset, save = save}
end
