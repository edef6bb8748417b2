-- append.lua: adds entries to a stream and cuts it to about a length.
-- KEYS[1] a stream
-- ARGV    length, then for each entry how many fields and values it has, and these
-- Returns how many were added; where the key is of another type, or cannot be written, an error, and none was
local added, i = 0, 2
while i <= #ARGV do
  local last = i + ARGV[i]
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, i + 1, last))
  added, i = added + 1, last + 1
end
return added
