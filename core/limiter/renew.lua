-- renew.lua: lengthens leases, and adds those that FLUSHALL or a failover lost.
-- KEYS    lease keys
-- ARGV    now (unix ms, '' = the server's clock), lease (ms), then for each key: its member
-- Returns 1
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[i + 2])
  redis.call('PEXPIRE', key, ARGV[2])
end
return 1
