-- step.lua: checks and charges all that one SMTP command touches, all or nothing.
-- KEYS    B block keys, then C rate keys, then L lease keys
-- ARGV    one string of words (a step has some fifty, and each argument costs the client more than Lua a word):
--         op (check, charge, refund, peek), now (unix ms, - = the server's clock), deadline (unix ms by the server's
--         clock, - = none), by (who sets blocks), at (unix ms, refund: when it was charged), lease (ms), B, C;
--         for each charge: flags (1 shadow, 2 probe), cost, block (ms, 0 = none), number of windows,
--         and for each window: name, ms, limit;
--         for each lease: limit, member
-- Returns {now}: later than the deadline, nothing was done. Else {now, allowed, number of blocks;
--         for each charge: index of the window that decides (0 = unlimited, negative if refused), used,
--         retry after (ms, -1 = never);
--         for each lease: refused, used;
--         for each block: index of its key, until, reason, since, by}
--
-- A window is held in parts of a tenth. `W.parts` is NEWEST:USED:COUNT,COUNT,...: the number of the newest part (unix
-- ms divided by its length), the sum, and the counts, the newest first. The oldest of 11 parts lies only partly in
-- the window and is counted in full. All is read before anything is written: an error leaves nothing half done.
local floor, match, gmatch, rep, concat, call = math.floor, string.match, string.gmatch, string.rep, table.concat, redis.call
local PARTS = 10
local words, count = {}, 0
for word in gmatch(ARGV[1], '[^ ]+') do
  count = count + 1
  words[count] = word
end
local op, deadline, by, at, lease = words[1], words[3], words[4], words[5], words[6]
local blocks, charges = tonumber(words[7]), tonumber(words[8])
local check, peek, refund = op == 'check', op == 'peek', op == 'refund'
local now = tonumber(words[2])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end
if deadline ~= '-' and now > tonumber(deadline) then return {now} end

-- What a window holds now: used, the count of the current part, the older counts as ',COUNT,COUNT'.
-- Parts from the future (the clock went back) are taken as if they were of now: neither lost nor counted twice.
local function read(held, current)
  local newest, used, count, older = match(held, '^(%d+):(%d+):(%d+)(.*)$')
  if not newest then return 0, 0, '' end
  local age = current - newest
  if age <= 0 then return used + 0, count + 0, older end
  if age > PARTS then return 0, 0, '' end
  local sum, kept, last, n = 0, {}, 0, 0
  for text in gmatch(count .. older, '%d+') do
    n = n + 1
    if n + age > PARTS + 1 then break end
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

-- ms until enough parts have gone: `excess` is what does not fit now.
local function retry(excess, count, older, current, part)
  local counts = list(count, older)
  for i = #counts, 1, -1 do
    excess = excess - counts[i]
    if excess <= 0 then return (current - i + PARTS + 2) * part - now end
  end
  return -1
end

-- Takes a cost back from the part it was charged in.
local function give_back(cost, used, count, older, current, part)
  local counts, age = list(count, older), math.max(current - floor(at / part), 0)
  local back = math.min(counts[age + 1] or 0, cost)
  if back == 0 then return used, count, older end
  counts[age + 1] = counts[age + 1] - back
  while #counts > 1 and counts[#counts] == 0 do counts[#counts] = nil end
  return used - back, counts[1], #counts > 1 and ',' .. concat(counts, ',', 2) or ''
end

local answer, allowed, found = {now, 1, 0}, true, {}

-- 1. Blocks
if not refund and call('EXISTS', unpack(KEYS, 1, blocks)) > 0 then
  for i = 1, blocks do
    local block = call('HMGET', KEYS[i], 'until', 'reason', 'since', 'by')
    if (tonumber(block[1]) or 0) > now then
      allowed = false
      found[#found + 1] = {i, tonumber(block[1]), block[2] or '', tonumber(block[3]) or 0, block[4] or ''}
    end
  end
end
local blocked = not allowed

-- 2. Counters: what to write, the longest window, how long its parts need the key, whether it goes over, for how
-- long to block
local writes, longest, needed, over, ban, arg = {}, {}, {}, {}, {}, 9
for i = blocks + 1, blocks + charges do
  local key, flags, cost, windows = KEYS[i], words[arg], tonumber(words[arg + 1]), tonumber(words[arg + 3])
  local shadow, probe = flags == '1' or flags == '3', check and flags >= '2'
  local write, ttl, refused, decides, held, wait, fullest = nil, 0, false, 0, 0, 0, -1
  ban[i] = words[arg + 2]
  arg = arg + 4
  for j = 1, windows do
    local name, ms, limit = words[arg], tonumber(words[arg + 1]), tonumber(words[arg + 2])
    arg = arg + 3
    local part = ms / PARTS
    local current, field = floor(now / part), name .. '.parts'
    local used, count, older = read(call('HGET', key, field) or '', current)
    if ms > ttl then ttl, needed[i] = ms, (current + PARTS + 1) * part - now end
    local after = used
    if refund then
      used, count, older = give_back(cost, used, count, older, current, part)
      after = used
    else
      after = used + cost
      if after > limit then
        local ms = 0
        if not (op == 'charge') then ms = cost > limit and -1 or retry(after - limit, count, older, current, part) end
        if not refused or (wait ~= -1 and (ms == -1 or ms > wait)) then decides, wait, held = j, ms, used end
        refused = true
      end
      count = count + cost
    end
    if not refused and after / limit > fullest then decides, fullest, held = j, after / limit, used end
    if not (probe or peek) then
      local parts = current .. ':' .. after .. ':' .. count .. older
      if j == 1 then
        write = {name .. '.used', after, name .. '.limit', limit, field, parts}
      else
        local n = #write
        write[n + 1], write[n + 2], write[n + 3] = name .. '.used', after, name .. '.limit'
        write[n + 4], write[n + 5], write[n + 6] = limit, field, parts
      end
    end
  end
  writes[i], longest[i], over[i] = write or false, ttl + ttl / PARTS, refused and not shadow
  if over[i] then allowed = false end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = refused and -decides or decides, held, wait
end

-- 3. Leases
local leases = arg
for i = blocks + charges + 1, #KEYS do
  local used = call('ZCOUNT', KEYS[i], '(' .. now, '+inf')
  local refused = used >= tonumber(words[arg]) and not call('ZSCORE', KEYS[i], words[arg + 1])
  if refused then allowed = false end
  local n = #answer
  answer[n + 1], answer[n + 2] = refused and 1 or 0, used
  arg = arg + 2
end

if not (check or peek) then allowed = true end
if not allowed then answer[2] = 0 end
answer[3] = #found
for _, block in ipairs(found) do
  for _, value in ipairs(block) do answer[#answer + 1] = value end
end
if peek then return answer end

-- 4. Writing
-- Each write makes sure of the TTL. PTTL first: it is cheaper, and a limit with shorter windows on the same counter
-- does not cut the life of the longer ones.
local function keep(i)
  if call('PTTL', KEYS[i]) < needed[i] then call('PEXPIRE', KEYS[i], longest[i]) end
end
for i = blocks + 1, blocks + charges do
  local key, write = KEYS[i], writes[i]
  if allowed and write then
    call('HSET', key, unpack(write))
    keep(i)
    local at = 4 + 3 * (i - blocks - 1)
    local decides = answer[at] < 0 and -answer[at] or answer[at]
    answer[at + 1] = write[6 * decides - 4]
  elseif over[i] and not blocked then
    call('HINCRBY', key, 'refused', 1)
    call('HSET', key, 'last', now)
    keep(i)
  end
  if over[i] and ban[i] ~= '0' and not blocked then
    local tag, what = match(key, '({.*}):(.*)$')
    for b = 1, blocks do
      if match(KEYS[b], '{.*}$') == tag then
        call('HSET', KEYS[b], 'reason', 'too many ' .. what, 'since', now, 'until', now + ban[i], 'by', by)
        call('PEXPIRE', KEYS[b], ban[i])
      end
    end
  end
end
if not allowed then return answer end
for i = blocks + charges + 1, #KEYS do
  call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  call('ZADD', KEYS[i], now + lease, words[leases + 2 * (i - blocks - charges) - 1])
  call('PEXPIRE', KEYS[i], lease)
end
return answer
