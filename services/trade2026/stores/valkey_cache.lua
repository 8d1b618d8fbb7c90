-- The cache of stores/valkey_cache.py, each operation in one piece. ARGV: the operation, then its arguments.
--
-- A value is text of fixed places: when it came to be (1-20), its place in the log plus one (22-41), 1 if it was
-- seen live (43), when it expires (45-64, zeros for never), the event (66-), a line's end, JSON. The newer of two
-- values of one key is the greater in its first 43 characters.
local KEPT, USERS, NAMES, USED, DEADLINES, META = unpack(KEYS)
local VERSION, EVENT_VERSION, NEVER = 43, 41, string.rep('0', 20)
local operation = ARGV[1]

local function deadline(value)
  local at = string.sub(value, 45, 64)
  return at ~= NEVER and at
end

local function size(key, value)
  return #key + #value - string.find(value, '\n', 1, true)
end

local function forget_user(key)
  local value = redis.call('HGET', USERS, key)
  if not value then return false end
  redis.call('HDEL', USERS, key)
  redis.call('ZREM', USED, key)
  redis.call('ZREM', NAMES, key)
  redis.call('HINCRBY', META, 'bytes', -size(key, value))
  local at = deadline(value)
  if at then redis.call('ZREM', DEADLINES, at .. key) end
  return true
end

local function forget(key)
  if forget_user(key) then return true end
  redis.call('ZREM', NAMES, key)
  return redis.call('HDEL', KEPT, key) == 1
end

-- `now` is the moment after: what expires before it has expired.
local function expire(now)
  for _, due in ipairs(redis.call('ZRANGE', DEADLINES, '-', '(' .. now, 'BYLEX')) do
    forget_user(string.sub(due, 21))
  end
end

local function tell(channel, key, value)
  redis.call('PUBLISH', channel, key .. '\0' .. (value or ''))
end

local function range(prefix, after, limit)
  local first = after >= prefix and after ~= '' and '(' .. after or '[' .. prefix
  local last = prefix == '' and '+' or '(' .. prefix .. '\255'
  return redis.call('ZRANGE', NAMES, first, last, 'BYLEX', 'LIMIT', 0, limit)
end

-- What is filled anew replaces all but the same event's value that was seen live.
local function newer_is_kept(old, new, anew)
  if anew and string.sub(old, 1, EVENT_VERSION) ~= string.sub(new, 1, EVENT_VERSION) then return false end
  return string.sub(old, 1, VERSION) > string.sub(new, 1, VERSION)
end

local function keep(anew)
  for i = 2, #ARGV, 2 do
    local key, value = ARGV[i], ARGV[i + 1]
    local old = redis.call('HGET', KEPT, key)
    if not old then
      forget_user(key)
      redis.call('ZADD', NAMES, 0, key)
    end
    if not old or not newer_is_kept(old, value, anew) then redis.call('HSET', KEPT, key, value) end
  end
end

if operation == 'fill' then return keep(true) end
if operation == 'kept' then return redis.call('HKEYS', KEPT) end
if operation == 'drop' then
  for i = 2, #ARGV do
    redis.call('HDEL', KEPT, ARGV[i])
    redis.call('ZREM', NAMES, ARGV[i])
  end
  return
end
if operation == 'filled' then return redis.call('HSET', META, 'filled', 1) end

if redis.call('HEXISTS', META, 'filled') == 0 then return redis.error_reply('LOST') end
if operation == 'keep' then return keep(false) end
expire(ARGV[2])

if operation == 'put' then
  local key, value, keys_max, bytes_max, channel = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
  forget(key)
  local evicted, bytes = 0, size(key, value)
  while redis.call('HLEN', USERS) >= keys_max or tonumber(redis.call('HGET', META, 'bytes') or 0) + bytes > bytes_max do
    forget_user(redis.call('ZRANGE', USED, 0, 0)[1])
    evicted = evicted + 1
  end
  redis.call('HSET', USERS, key, value)
  redis.call('ZADD', NAMES, 0, key)
  redis.call('ZADD', USED, redis.call('HINCRBY', META, 'uses', 1), key)
  redis.call('HINCRBY', META, 'bytes', bytes)
  local at = deadline(value)
  if at then redis.call('ZADD', DEADLINES, 0, at .. key) end
  tell(channel, key, value)
  return evicted
end

if operation == 'get' then
  local found = {}
  for i = 3, #ARGV do
    local key = ARGV[i]
    local value = redis.call('HGET', KEPT, key)
    if not value then
      value = redis.call('HGET', USERS, key)
      if value then redis.call('ZADD', USED, redis.call('HINCRBY', META, 'uses', 1), key) end
    end
    found[i - 2] = value
  end
  return found
end

if operation == 'keys' then return range(ARGV[3], ARGV[4], ARGV[5]) end

if operation == 'delete' then
  local found = forget(ARGV[3])
  if found then tell(ARGV[4], ARGV[3]) end
  return found and 1 or 0
end

if operation == 'delete_prefix' then
  local found = range(ARGV[3], '', -1)
  for _, key in ipairs(found) do
    forget(key)
    tell(ARGV[4], key)
  end
  return found
end

if operation == 'size' then
  local bytes = tonumber(redis.call('HGET', META, 'bytes') or 0)
  return {redis.call('HLEN', KEPT), redis.call('HLEN', USERS), bytes}
end

return redis.error_reply('no operation ' .. operation)
