-- step.lua: checks and charges all that one SMTP command touches, all or nothing.
-- KEYS    B block keys, then C rate keys, then L lease keys
-- ARGV    op (check, charge, refund, peek), now (unix ms, '' = the server's clock), deadline (unix ms by the server's
--         clock, '' = none), by (who sets blocks), at (unix ms, refund: when it was charged), lease (ms), B, C;
--         for each charge: index of its block key, cost, flags (1 shadow, 2 probe), block (ms, 0 = none), reason,
--         number of windows, and for each window: name, ms, limit;
--         for each lease: limit, member
-- Returns {now}: later than the deadline, nothing was done. Else {now, allowed,
--         for each block key: until (0 = none), reason, since, by;
--         for each charge: refused, index of the window (0 = unlimited), used, limit, retry after (ms, -1 = never);
--         for each lease: refused, used}
--
-- A window is held in parts of a tenth. `W.parts` is NEWEST:COUNT,COUNT,...: the number of the newest part (unix ms
-- divided by its length) and the counts, the newest first. The oldest of 11 parts lies only partly in the window and
-- is counted in full. All is read before anything is written, so an error leaves nothing half done.
local floor, match, gmatch, rep, concat, call = math.floor, string.match, string.gmatch, string.rep, table.concat, redis.call
local PARTS = 10
local op, deadline, by, at, lease = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local blocks, charges = tonumber(ARGV[7]), tonumber(ARGV[8])
local now = tonumber(ARGV[2])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end
if deadline ~= '' and now > tonumber(deadline) then return {now} end

local answer, allowed = {now, 1}, true
local function put(value) answer[#answer + 1] = value end

-- What a window holds now: the current part, used, the count of the current part, the older counts as ',COUNT...'.
-- Parts from the future (the clock went back) are taken as if they were of now: neither lost nor counted twice.
local function read(used, parts, part)
  local current = floor(now / part)
  local newest, count, older = match(parts or '', '^(%d+):(%d+)(.*)$')
  if not newest then return current, 0, 0, '' end
  local age = current - newest
  if age <= 0 then return current, tonumber(used) or 0, tonumber(count), older end
  local sum, kept, n, last = 0, {}, 0, 0
  for text in gmatch(parts, '[:,](%d+)') do
    n = n + 1
    if n + age > PARTS + 1 then break end
    kept[n] = text
    if text ~= '0' then sum, last = sum + text, n end
  end
  if last == 0 then return current, 0, 0, '' end
  return current, sum, 0, rep(',0', age - 1) .. ',' .. concat(kept, ',', 1, last)
end

-- The counts as numbers, the newest first.
local function list(count, older)
  local counts = {count}
  for text in gmatch(older, '%d+') do counts[#counts + 1] = tonumber(text) end
  return counts
end

-- When enough parts have gone for the cost to fit.
local function retry(w, cost)
  if cost > w.limit then return -1 end
  local counts, excess = list(w.count, w.older), w.used + cost - w.limit
  for i = #counts, 1, -1 do
    excess = excess - counts[i]
    if excess <= 0 then return (w.current - i + PARTS + 2) * w.part - now end
  end
end

-- Takes a cost back from the part it was charged in.
local function give_back(w, cost)
  local counts, age = list(w.count, w.older), w.current - floor(at / w.part)
  local i = math.max(age, 0) + 1
  if not counts[i] then return end
  local back = math.min(counts[i], cost)
  counts[i], w.used = counts[i] - back, w.used - back
  while #counts > 1 and counts[#counts] == 0 do counts[#counts] = nil end
  w.count, w.older = counts[1], #counts > 1 and ',' .. concat(counts, ',', 2) or ''
end

-- 1. Blocks
if op == 'refund' or call('EXISTS', unpack(KEYS, 1, blocks)) == 0 then
  for _ = 1, blocks do put(0) put('') put(0) put('') end
else
  for i = 1, blocks do
    local block = call('HMGET', KEYS[i], 'until', 'reason', 'since', 'by')
    local ends = tonumber(block[1]) or 0
    if ends > now then
      allowed = false
      put(ends) put(block[2] or '') put(tonumber(block[3]) or 0) put(block[4] or '')
    else
      put(0) put('') put(0) put('')
    end
  end
end

-- 2. Counters
local counters, arg, blocked = {}, 9, not allowed
for i = 1, charges do
  local key, windows = KEYS[blocks + i], tonumber(ARGV[arg + 5])
  local flags = tonumber(ARGV[arg + 2])
  local c = {
    key = key, arg = arg, cost = tonumber(ARGV[arg + 1]), shadow = flags % 2 == 1, probe = flags >= 2 and op == 'check', ttl = 0,
    slot = #answer,
  }
  arg = arg + 6
  local decides, refused, longest, fullest = 0, 0, 0, -1
  if windows > 0 then
    local fields = {}
    for j = 0, windows - 1 do
      local name = ARGV[arg + 3 * j]
      fields[2 * j + 1], fields[2 * j + 2] = name .. '.used', name .. '.parts'
    end
    local held = call('HMGET', key, unpack(fields))
    for j = 1, windows do
      local ms = tonumber(ARGV[arg + 1])
      local w = {name = ARGV[arg], part = ms / PARTS, limit = tonumber(ARGV[arg + 2])}
      w.current, w.used, w.count, w.older = read(held[2 * j - 1], held[2 * j], w.part)
      if ms > c.ttl then c.ttl = ms end
      if op == 'refund' then
        give_back(w, c.cost)
      elseif w.used + c.cost > w.limit then
        local after = op ~= 'charge' and retry(w, c.cost) or 0
        if refused == 0 or (longest ~= -1 and (after == -1 or after > longest)) then decides, longest = j, after end
        refused = 1
      end
      local full = (op == 'refund' and w.used or w.used + c.cost) / w.limit
      if refused == 0 and full > fullest then decides, fullest = j, full end
      c[j], arg = w, arg + 3
    end
    c.ttl = c.ttl + c.ttl / PARTS
  end
  local w = c[decides]
  put(refused) put(decides) put(w and w.used or 0) put(w and w.limit or 0) put(longest)
  c.refused, c.decides = refused == 1, w
  if c.refused and not c.shadow then allowed = false end
  counters[i] = c
end

-- 3. Leases
for i = blocks + charges + 1, #KEYS do
  local used = call('ZCOUNT', KEYS[i], '(' .. now, '+inf')
  local refused = used >= tonumber(ARGV[arg]) and not call('ZSCORE', KEYS[i], ARGV[arg + 1])
  if refused then allowed = false end
  put(refused and 1 or 0) put(used)
  arg = arg + 2
end

if op == 'charge' or op == 'refund' then allowed = true end
if not allowed then answer[2] = 0 end
if op == 'peek' then return answer end

-- 4. Writing
for _, c in ipairs(counters) do
  if c[1] and allowed and not c.probe then
    local fields = {}
    for j, w in ipairs(c) do
      if op ~= 'refund' then w.used, w.count = w.used + c.cost, w.count + c.cost end
      local n = 6 * (j - 1)
      fields[n + 1], fields[n + 2] = w.name .. '.used', w.used
      fields[n + 3], fields[n + 4] = w.name .. '.limit', w.limit
      fields[n + 5], fields[n + 6] = w.name .. '.parts', w.current .. ':' .. w.count .. w.older
    end
    call('HSET', c.key, unpack(fields))
    call('PEXPIRE', c.key, c.ttl)
    answer[c.slot + 3] = c.decides.used
  elseif c.refused and not c.shadow and not allowed and not blocked then
    call('HINCRBY', c.key, 'refused', 1)
    call('HSET', c.key, 'last', now)
    call('PEXPIRE', c.key, c.ttl)
  end
  local ms = tonumber(ARGV[c.arg + 3])
  if ms > 0 and c.refused and not c.shadow and not blocked then
    local key = KEYS[tonumber(ARGV[c.arg])]
    call('HSET', key, 'reason', ARGV[c.arg + 4], 'since', now, 'until', now + ms, 'by', by)
    call('PEXPIRE', key, ms)
  end
end
if not allowed then return answer end
for i = blocks + charges + 1, #KEYS do
  local key, member = KEYS[i], ARGV[arg - 2 * (#KEYS - i + 1) + 1]
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  call('ZADD', key, now + lease, member)
  call('PEXPIRE', key, lease)
end
return answer
