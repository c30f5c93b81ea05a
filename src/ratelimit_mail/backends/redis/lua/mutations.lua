-- Change a log: record, refuse, book, reset; and store it.

-- Returns the functions that change logs. `grace`: the milliseconds that a key outlives its use.
local function mutations(logs, now, grace)
  local floor, max, min = math.floor, math.max, math.min
  local call = redis.call
  local time, total, make_writable, last_by, enter =
    logs.time, logs.total, logs.make_writable, logs.last_by, logs.enter
  local stored_index = logs.stored_index

  -- Forgets what has left every window by `present`. Time does not go back before that.
  local function forget(log, present)
    if log.n > 0 and log.oldest <= present - log.span then
      log.trim = last_by(log, present - log.span, 0, log.n)
    end
    if log.trim > 0 then
      log.newest = max(log.newest, time(log, log.trim) + log.span)
    end
  end

  local function insert(log, at, present, sent, attempted)
    enter(log, at, present, sent, attempted)
    forget(log, present)
  end

  -- Records what is sent now, or will be sent at `at`; returns the moment at which it is counted.
  local function book(log, at, cost)
    local present = max(now, log.newest)
    if at <= present then
      log.newest, at = present, present
    end
    insert(log, at, present, cost, cost)
    return at
  end

  -- Records an attempt that is refused now.
  local function refuse(log, cost)
    log.newest = max(now, log.newest)
    insert(log, log.newest, log.newest, 0, cost)
  end

  -- Lowers all running totals by what was forgotten, so that they fit their six bytes for ever.
  local function rebase(log)
    make_writable(log, 1)
    log.shifts = nil
    local forgotten = total(log, log.trim)
    logs.lower_totals(log, forgotten, forgotten)
  end

  local function pack_state(log, n, last, oldest)
    local state = struct.pack(STATE, MARK, log.generation, n, log.newest, last, oldest, log.base,
      log.sent, log.attempted_base, log.attempted, log.compact_at, log.span, log.slot, log.ceiling,
      log.expires)
    local full = last > max(now, log.newest) and log.full or nil
    if full or log.shifts and #log.shifts > 0 then
      return state .. write_full(full) .. write_shifts(log.shifts)
    end
    return state
  end

  -- Stores what long searches have found full in a log that has not changed. A failure does not matter.
  local function save_full(log)
    if not redis.acl_check_cmd or redis.acl_check_cmd('LSET', log.key, -1, '') then
      redis.pcall('LSET', log.key, -1, pack_state(log, log.n, log.last, log.oldest))
    end
  end

  local function save(log)
    log.has_new_full = nil
    if log.attempted >= LARGEST_TOTAL then
      rebase(log)
    end
    if log.is_shifted
      and (log.attempted - log.attempted_base >= 2 ^ 32 or log.last - log.oldest >= 2 ^ 40)
    then
      make_writable(log, 1)
      log.shifts = nil
    end
    local n = log.n - log.trim
    local last = n > 0 and time(log, log.n) or LONG_AGO
    local oldest = n > 0 and time(log, log.trim + 1) or LONG_AGO
    if log.shifts then
      logs.far_changes().drop_shifts(log, oldest, last, logs)
    end
    if log.trim > 0 then
      log.base, log.attempted_base = total(log, log.trim), total(log, log.trim, true)
      if log.compact_at % 2 > 0 then  -- the next entry that compaction looks at
        log.compact_at = max(1, log.compact_at - log.trim - log.trim % 2)
      end
    end
    local is_compacting = n >= log.compact_at
    local refused = log.attempted - log.attempted_base - log.sent + log.base
    if is_compacting and not is_compactable(n, log.span, log.slot, refused) then
      log.compact_at, is_compacting = 2 * n + 64, false
    end
    local first = log.from
    local function write(i)
      return logs.write(log, time(log, i), log.sent_totals[i], log.attempted_totals[i], oldest)
    end
    local elements = {}
    for i = first, log.n do
      elements[#elements + 1] = write(i)
    end
    local needed_until = max(log.newest, last, log.last_needed or LONG_AGO) + log.span
    local is_new = log.expires == LONG_AGO
    local is_renewed = needed_until > log.expires
    if is_renewed then
      log.expires = needed_until + floor(log.span / 8)
    end
    elements[#elements + 1] = pack_state(log, n, last, oldest)
    local unsaved, insert_new = 1, nil
    if not is_new then -- the list must not become empty, or the key would lose its expiry
      if #log.moves > 0 or next(log.changed) then
        insert_new = logs.far_changes().save(log, write)
      end
      local before = stored_index(log, first) - #log.removed -- so many entries stay
      if before < log.stored - #log.removed then
        call('LTRIM', log.key, 0, before)
      end
      call('LSET', log.key, -1, elements[1])
      unsaved = 2
    end
    for i = unsaved, #elements, 1000 do
      call('RPUSH', log.key, unpack(elements, i, min(i + 999, #elements)))
    end
    if insert_new then
      insert_new()
    end
    if log.trim > 0 then
      call('LTRIM', log.key, log.trim, -1)
    end
    if is_renewed then
      call('PEXPIRE', log.key, log.expires - now + grace)
    end
    if is_compacting and not is_compacted then
      compact_some(log.key, now, pack_state)
    end
  end

  -- Forgets everything. The key remains until what it held could not matter any more.
  local function reset(log)
    log.n, log.trim, log.from = 0, 0, 1
    log.moves, log.inserted, log.changed, log.removed = {}, {}, {}, {}
    log.full, log.shifts = nil, nil
    log.newest, log.base, log.sent, log.attempted_base, log.attempted = LONG_AGO, 0, 0, 0, 0
    log.compact_at, log.generation = 64, new_generation()
    save(log)
  end

  return {
    book = book, refuse = refuse, reset = reset, save = save, save_full = save_full, forget = forget,
    grace = grace,
  }
end
