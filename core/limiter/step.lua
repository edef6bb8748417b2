-- step.lua: checks and charges all that one SMTP command touches, all or nothing; gives back what was not used.
-- KEYS    the block keys, then the rate key of each charge, then the lease key of each lease
-- ARGV    one JSON array (each argument costs the client more than it costs Lua to read it here):
--         op (check, charge, refund, dry-run), now (unix ms, false = the server's clock), deadline (unix ms by the
--         server's clock, false = none), by (who sets blocks), lease (ms), recall (the channel on which a step that is
--         refused asks workers for what they hold in advance, false = refuse at once),
--         for each charge [flags (1 shadow, 2 check only), cost, block (ms, 0 = none), extra (taken in advance, if there
--         is room), settled (taken in advance before, and used since), at (unix ms, refund and settled: when it was
--         charged), for each window [name, ms, limit]],
--         for each lease [limit, member]; a refund takes the members away
-- Returns {now}: later than the deadline, nothing was done. Else {now, allowed (2: refused, but workers were asked for
--         what they hold, and nothing was done), number of blocks;
--         for each charge: index of the window that decides (negative if refused), used, retry after (ms, -1 = never),
--         granted of extra (refused: less than 0, what workers hold in advance);
--         for each lease: refused, used;
--         for each block: index of its key, until, reason, since, by}
--
-- A window is held in ten buckets. `W.parts` is NEWEST:USED:COUNT,COUNT,...;LEASED: the number of the newest bucket (unix
-- ms divided by its width), the sum, the counts, the newest first, and what of the newest workers have taken in advance
-- and not accounted for. They may use that until the bucket ends, so of older buckets nothing is leased. The oldest of 11
-- buckets lies only partly in the window and counts in full. All is read before anything is written: an error leaves
-- nothing half done. A window that holds nothing has no fields, and a counter without windows no key: nobody fills Redis
-- with names that were refused. Numbers are made text once: Redis does it with printf, which costs more than a short command.
local floor, max, min, call = math.floor, math.max, math.min, redis.call
local match, gmatch, rep, concat = string.match, string.gmatch, string.rep, table.concat
local BUCKETS = 10
-- Lua has room for some 8000 results of unpack, and a message may have more recipients.
local SLICE = 100
local op, now, deadline, by, lease, recall, charges, leases = unpack(cjson.decode(ARGV[1]))
local check, dry_run, refund = op == 'check', op == 'dry-run', op == 'refund'
local blocks = #KEYS - #charges - #leases
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end
if deadline and now > deadline then return {now} end

-- What a window holds now: used, the count of the current bucket, the older counts as ',COUNT,COUNT', and what is leased.
-- Buckets from the future (the clock went back) are taken as if they were of now: neither lost nor counted twice.
local function read(held, current)
  local newest, used, count, older, leased = match(held, '^(%d+):(%d+):(%d+)([%d,]*);?(%d*)$')
  if not newest then return 0, 0, '', 0 end
  local age = current - newest
  if age <= 0 then return used + 0, count + 0, older, leased == '' and 0 or leased + 0 end
  if age > BUCKETS then return 0, 0, '', 0 end
  local sum, kept, last, n = 0, {}, 0, 0
  for text in gmatch(count .. older, '%d+') do
    n = n + 1
    if n + age > BUCKETS + 1 then break end
    kept[n] = text
    if text ~= '0' then sum, last = sum + text, n end
  end
  if last == 0 then return 0, 0, '', 0 end
  return sum, 0, rep(',0', age - 1) .. ',' .. concat(kept, ',', 1, last), 0
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
local function give_back(cost, at, used, count, older, current, width)
  local counts, age = list(count, older), max(current - floor(at / width), 0)
  local back = min(counts[age + 1] or 0, cost)
  if back == 0 then return used, count, older end
  counts[age + 1] = counts[age + 1] - back
  while #counts > 1 and counts[#counts] == 0 do counts[#counts] = nil end
  return used - back, counts[1], #counts > 1 and ',' .. concat(counts, ',', 2) or ''
end

local answer, allowed, found = {now, 1, 0}, true, {}

-- 1. Blocks
for first = 1, refund and 0 or blocks, SLICE do
  local last = min(first + SLICE - 1, blocks)
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
-- its buckets need the key, whether it goes over, whether it holds anything, and the keys to recall
local writes, empties, totals, longest, needed, over, exists, recalls = {}, {}, {}, {}, {}, {}, {}, {}
for i = 1, #charges do
  local charge, key = charges[i], KEYS[blocks + i]
  local flags, cost, extra, settled, at, windows = charge[1], charge[2], charge[4], charge[5], charge[6], charge[7]
  local shadow, added = flags == 1 or flags == 3, check and flags >= 2 and 0 or cost
  local ttl, refused, decides, held, wait, fullest, held_ahead = 0, false, 0, 0, 0, -1, 0
  local standing, total, write, empty = {}, {}, {}, {}
  for j = 1, #windows do
    local window = windows[j]
    local name, ms, limit = window[1], window[2], window[3]
    local width = ms / BUCKETS
    local current = floor(now / width)
    local used, count, older, leased = read(call('HGET', key, name .. '.parts') or '', current)
    if used > 0 then exists[i] = true end
    if ms > ttl then ttl, needed[i] = ms, (current + BUCKETS + 1) * width - now end
    if settled ~= 0 and floor(at / width) >= current then leased = max(leased - settled, 0) end
    local after = used
    if refund then
      used, count, older = give_back(cost, at, used, count, older, current, width)
      after = used
    else
      after = used + cost
      if after > limit then
        local ms = 0
        if op ~= 'charge' then ms = cost > limit and -1 or retry(after - limit, count, older, current, width) end
        if not refused or (wait ~= -1 and (ms == -1 or ms > wait)) then decides, wait, held = j, ms, used end
        refused = true
        held_ahead = max(held_ahead, leased)
      end
      local room = limit - used - added
      if extra * 2 > room * 2 - limit then
        extra = room * BUCKETS >= limit and min(extra, floor(room / 4)) or 0
      end
    end
    if not refused and after / limit > fullest then decides, fullest, held = j, after / limit, used end
    standing[j] = {current, used, count, older, leased}
  end
  if refund or dry_run then extra = 0 end
  local adds = refund and 0 or added + extra
  for j = 1, refund and #windows or adds > 0 and #windows or 0 do
    local name, current, used, count, older, leased = windows[j][1], unpack(standing[j])
    used, count, leased = used + adds, count + adds, leased + extra
    if used > 0 then
      local text, n = used .. '', #write
      write[n + 1], write[n + 2], write[n + 3], write[n + 4] = name .. '.used', text, name .. '.limit', windows[j][3] .. ''
      write[n + 5], write[n + 6], write[n + 7] = name .. '.leased', leased .. '', name .. '.parts'
      write[n + 8] = current .. ':' .. text .. ':' .. (count == used and text or count) .. older .. (leased > 0 and ';' .. leased or '')
    else
      local n = #empty
      empty[n + 1], empty[n + 2], empty[n + 3], empty[n + 4] = name .. '.used', name .. '.limit', name .. '.leased', name .. '.parts'
    end
    total[j] = used
  end
  writes[i], empties[i], totals[i] = write, empty, total
  longest[i], over[i] = ttl + ttl / BUCKETS, refused and not shadow
  if over[i] then allowed = false end
  if held_ahead > 0 and cost > 0 then recalls[#recalls + 1] = key end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = refused and -decides or decides, held, wait, refused and -held_ahead or extra
end

-- 3. Leases
for i = 1, refund and 0 or #leases do
  local key, limit, member = KEYS[blocks + #charges + i], leases[i][1], leases[i][2]
  local used = call('ZCOUNT', key, '(' .. now, '+inf')
  local refused = used >= limit and not call('ZSCORE', key, member)
  if refused then
    allowed = false
    recalls[#recalls + 1] = key
  end
  local n = #answer
  answer[n + 1], answer[n + 2] = refused and 1 or 0, used
end

if not (check or dry_run) then allowed = true end
local asks = check and recall and not blocked and #recalls > 0
if asks then
  -- Where the right to publish is missing, those who hold something hear nothing.
  for _, key in ipairs(recalls) do redis.pcall('PUBLISH', recall, key) end
  allowed = false
end
if not allowed then
  answer[2] = asks and 2 or 0
  for i = 1, #charges do answer[4 * i + 3] = min(answer[4 * i + 3], 0) end
end
answer[3] = #found
for _, block in ipairs(found) do
  for _, value in ipairs(block) do answer[#answer + 1] = value end
end
if dry_run or asks then return answer end

-- 4. Writing
-- Each write makes sure of the TTL. PTTL first: it is cheaper, and a limit with shorter windows on the same counter
-- does not cut the life of the longer ones.
local function keep(i, key)
  if call('PTTL', key) < needed[i] then call('PEXPIRE', key, longest[i]) end
end
for i = 1, #charges do
  local key, ban = KEYS[blocks + i], charges[i][3]
  if allowed then
    if #writes[i] > 0 then
      call('HSET', key, unpack(writes[i]))
      keep(i, key)
    end
    if #empties[i] > 0 then call('HDEL', key, unpack(empties[i])) end
    local index = 4 * i
    local decides = answer[index] < 0 and -answer[index] or answer[index]
    answer[index + 1] = totals[i][decides] or answer[index + 1]
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
  local key, member = KEYS[blocks + #charges + i], leases[i][2]
  if refund then
    call('ZREM', key, member)
  else
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    call('ZADD', key, now + lease, member)
    call('PEXPIRE', key, lease)
  end
end
return answer
