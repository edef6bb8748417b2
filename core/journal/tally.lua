-- tally.lua: adds to one key and gives it its TTL. A key of another type is left as it is, TTL included.
-- KEYS[1] a hash or a sorted set
-- ARGV    command (HINCRBY, HSET, ZINCRBY), TTL (s), members that a sorted set keeps, then the command's arguments in pairs
-- Returns 1
for i = 4, #ARGV, 2 do redis.call(ARGV[1], KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[1] == 'ZINCRBY' then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
