-- tally.lua: adds to one key and gives it its TTL. A key of another type is left as it is, TTL included.
-- KEYS[1] a hash or a sorted set
-- ARGV    command (HINCRBY, HSET, ZINCRBY), TTL (s), members that a sorted set keeps, then the command's arguments in pairs
-- Returns '' or why some pair could not be added, for good: the others were; where none could be, an error
local added, failure = 0, ''
for i = 4, #ARGV, 2 do
  local reply = redis.pcall(ARGV[1], KEYS[1], ARGV[i], ARGV[i + 1])
  if type(reply) == 'table' and reply.err then failure = reply else added = added + 1 end
end
if added == 0 then return failure end
if ARGV[1] == 'ZINCRBY' then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return failure == '' and '' or failure.err
