-- step.lua: checks and charges all that one SMTP command touches, all or nothing.
-- KEYS    the block keys, then the rate key of each charge, then the lease key of each lease
-- ARGV    one JSON array (each argument costs the client more than it costs Lua to read it here):
--         op (check, charge, refund, dry-run), now (unix ms, false = the server's clock), deadline (unix ms by the
--         server's clock, false = none), by (who sets blocks), at (unix ms, refund: when it was charged), lease (ms),
--         for each charge [flags (1 shadow, 2 check only), cost, block (ms, 0 = none), for each window [name, ms, limit]],
--         for each lease [limit, member]
-- Returns {now}: later than the deadline, nothing was done. Else {now, allowed, number of blocks;
--         for each charge: index of the window that decides (negative if refused), used, retry after (ms, -1 = never);
--         for each lease: refused, used;
--         for each block: index of its key, until, reason, since, by}
--
-- A window is held in ten buckets. `W.parts` is NEWEST:USED:COUNT,COUNT,...: the number of the newest bucket (unix ms
-- divided by its width), the sum, and the counts, the newest first. The oldest of 11 buckets lies only partly in the
-- window and counts in full. All is read before anything is written: an error leaves nothing half done. A window that
-- holds nothing has no fields, and a counter without windows no key: nobody fills Redis with names that were refused.
-- Numbers are made text once: Redis does it with printf, which costs more than a short command.
local floor, match, gmatch, rep, concat, call = math.floor, string.match, string.gmatch, string.rep, table.concat, redis.call
local BUCKETS = 10
-- Lua has room for some 8000 results of unpack, and a message may have more recipients.
local SLICE = 100
local op, now, deadline, by, at, lease, charges, leases = unpack(cjson.decode(ARGV[1]))
local check, dry_run, refund = op == 'check', op == 'dry-run', op == 'refund'
local blocks = #KEYS - #charges - #leases
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end
if deadline and now > deadline then return {now} end

-- What a window holds now: used, the count of the current bucket, the older counts as ',COUNT,COUNT'.
-- Buckets from the future (the clock went back) are taken as if they were of now: neither lost nor counted twice.
local function read(held, current)
  local newest, used, count, older = match(held, '^(%d+):(%d+):(%d+)(.*)$')
  if not newest then return 0, 0, '' end
  local age = current - newest
  if age <= 0 then return used + 0, count + 0, older end
  if age > BUCKETS then return 0, 0, '' end
  local sum, kept, last, n = 0, {}, 0, 0
  for text in gmatch(count .. older, '%d+') do
    n = n + 1
    if n + age > BUCKETS + 1 then break end
    kept[n] = text
    if text ~= '0' then sum, last = sum + text, n end
  end
  if last == 0 then return 0, 0, '' end
  return sum, 0, rep(',0', age - 1) .. ',' .. concat(kept, ',', 1, last)
end

-- The counts as numbers, the newest first.
local function list(count, older)
  local counts = {count}
  for text in gmatch(older, '%d+') do counts[#counts + 1] = tonumber(text) end
  return counts
end

-- ms until enough buckets have left the window: `excess` is what does not fit now.
local function retry(excess, count, older, current, width)
  local counts = list(count, older)
  for i = #counts, 1, -1 do
    excess = excess - counts[i]
    if excess <= 0 then return (current - i + BUCKETS + 2) * width - now end
  end
  return -1
end

-- Takes a cost back from the bucket it was charged to.
local function give_back(cost, used, count, older, current, width)
  local counts, age = list(count, older), math.max(current - floor(at / width), 0)
  local back = math.min(counts[age + 1] or 0, cost)
  if back == 0 then return used, count, older end
  counts[age + 1] = counts[age + 1] - back
  while #counts > 1 and counts[#counts] == 0 do counts[#counts] = nil end
  return used - back, counts[1], #counts > 1 and ',' .. concat(counts, ',', 2) or ''
end

local answer, allowed, found = {now, 1, 0}, true, {}

-- 1. Blocks
for first = 1, refund and 0 or blocks, SLICE do
  local last = math.min(first + SLICE - 1, blocks)
  local some = call('EXISTS', unpack(KEYS, first, last)) > 0
  for i = first, some and last or 0 do
    local block = call('HMGET', KEYS[i], 'until', 'reason', 'since', 'by')
    if (tonumber(block[1]) or 0) > now then
      allowed = false
      found[#found + 1] = {i, tonumber(block[1]), block[2] or '', tonumber(block[3]) or 0, block[4] or ''}
    end
  end
end
local blocked = not allowed

-- 2. Counters: the fields to write and those to take away, what each window holds then, the longest window, how long
-- its buckets need the key, whether it goes over, and whether it holds anything
local writes, empties, totals, longest, needed, over, exists = {}, {}, {}, {}, {}, {}, {}
for i = 1, #charges do
  local charge, key = charges[i], KEYS[blocks + i]
  local flags, cost, windows = charge[1], charge[2], charge[4]
  local shadow, write = flags == 1 or flags == 3, not (dry_run or check and flags >= 2) and {}
  local ttl, refused, decides, held, wait, fullest, empty, total = 0, false, 0, 0, 0, -1, {}, {}
  for j = 1, #windows do
    local window = windows[j]
    local name, ms, limit = window[1], window[2], window[3]
    local width = ms / BUCKETS
    local current, field = floor(now / width), name .. '.parts'
    local used, count, older = read(call('HGET', key, field) or '', current)
    if used > 0 then exists[i] = true end
    if ms > ttl then ttl, needed[i] = ms, (current + BUCKETS + 1) * width - now end
    local after = used
    if refund then
      used, count, older = give_back(cost, used, count, older, current, width)
      after = used
    else
      after = used + cost
      if after > limit then
        local ms = 0
        if op ~= 'charge' then ms = cost > limit and -1 or retry(after - limit, count, older, current, width) end
        if not refused or (wait ~= -1 and (ms == -1 or ms > wait)) then decides, wait, held = j, ms, used end
        refused = true
      end
      count = count + cost
    end
    if not refused and after / limit > fullest then decides, fullest, held = j, after / limit, used end
    total[j] = after
    if write and after > 0 then
      local text, n = after .. '', #write
      write[n + 1], write[n + 2], write[n + 3], write[n + 4] = name .. '.used', text, name .. '.limit', limit .. ''
      write[n + 5] = field
      write[n + 6] = current .. ':' .. text .. ':' .. (count == after and text or count) .. older
    elseif write then
      local n = #empty
      empty[n + 1], empty[n + 2], empty[n + 3] = name .. '.used', name .. '.limit', field
    end
  end
  writes[i], empties[i], totals[i] = write, empty, total
  longest[i], over[i] = ttl + ttl / BUCKETS, refused and not shadow
  if over[i] then allowed = false end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = refused and -decides or decides, held, wait
end

-- 3. Leases
for i = 1, #leases do
  local key, limit, member = KEYS[blocks + #charges + i], leases[i][1], leases[i][2]
  local used = call('ZCOUNT', key, '(' .. now, '+inf')
  local refused = used >= limit and not call('ZSCORE', key, member)
  if refused then allowed = false end
  local n = #answer
  answer[n + 1], answer[n + 2] = refused and 1 or 0, used
end

if not (check or dry_run) then allowed = true end
if not allowed then answer[2] = 0 end
answer[3] = #found
for _, block in ipairs(found) do
  for _, value in ipairs(block) do answer[#answer + 1] = value end
end
if dry_run then return answer end

-- 4. Writing
-- Each write makes sure of the TTL. PTTL first: it is cheaper, and a limit with shorter windows on the same counter
-- does not cut the life of the longer ones.
local function keep(i, key)
  if call('PTTL', key) < needed[i] then call('PEXPIRE', key, longest[i]) end
end
for i = 1, #charges do
  local key, write, ban = KEYS[blocks + i], writes[i], charges[i][3]
  if allowed and write then
    if #write > 0 then
      call('HSET', key, unpack(write))
      keep(i, key)
    end
    if #empties[i] > 0 then call('HDEL', key, unpack(empties[i])) end
    local index = 3 * i + 1
    local decides = answer[index] < 0 and -answer[index] or answer[index]
    answer[index + 1] = totals[i][decides]
  elseif over[i] and not blocked and exists[i] then
    call('HINCRBY', key, 'refused', 1)
    call('HSET', key, 'last', now)
    keep(i, key)
  end
  if over[i] and ban > 0 and not blocked then
    local tag, what = match(key, '({.*}):(.*)$')
    for b = 1, blocks do
      if match(KEYS[b], '{.*}$') == tag then
        call('HSET', KEYS[b], 'reason', 'too many ' .. what, 'since', now, 'until', now + ban, 'by', by)
        call('PEXPIRE', KEYS[b], ban)
      end
    end
  end
end
if not allowed then return answer end
for i = 1, #leases do
  local key = KEYS[blocks + #charges + i]
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  call('ZADD', key, now + lease, leases[i][2])
  call('PEXPIRE', key, lease)
end
return answer
