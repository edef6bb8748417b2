-- release.lua: gives leases back.
-- KEYS    lease keys
-- ARGV    for each key: its member
-- Returns 1
for i, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[i]) end
return 1
