-- JSON ⇄ tables, so that what nobody touches comes out as it came in.
--
-- A table remembers the shape that it was read from, in a weak table beside it: array or object, the order
-- of the keys, where null stood, and how a number was written when Lua would write it otherwise (1.0, 1e3, integers
-- beyond 2^53). null reads as nil and stays null until something is assigned; json.null writes one. A table that
-- a script made is an array when its keys are 1 to n, else an object; {} is an object.

local host = ...

local find, sub, byte, char, gsub, format, match = string.find, string.sub, string.byte, string.char, string.gsub,
  string.format, string.match
local concat, insert, sort = table.concat, table.insert, table.sort
local type, pairs, ipairs, tonumber, tostring, error, pcall, setmetatable, rawget, next, floor =
  type, pairs, ipairs, tonumber, tostring, error, pcall, setmetatable, rawget, next, math.floor

local MAX_DEPTH = 64
local huge = math.huge

local shapes = setmetatable({}, { __mode = "k" })
local null = setmetatable({}, { __tostring = function() return "null" end, __newindex = function() end, __metatable = false })

-- Reading ---------------------------------------------------------------------------------------------

local function fail(text, at, what)
  error({ problem = what .. " at byte " .. at }, 0)
end

local function skip(text, at)
  return (find(text, "[^ \t\r\n]", at)) or #text + 1
end

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function utf8(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64,
    0x80 + code % 64)
end

local function escape_at(text, at)
  local plain = ESCAPES[sub(text, at, at)]
  if plain then return plain, at + 1 end
  local digits = match(text, "^u(%x%x%x%x)", at)
  if not digits then fail(text, at, "a backslash before nothing that JSON has") end
  local code = tonumber(digits, 16)
  if code >= 0xDC00 and code <= 0xDFFF then fail(text, at, "half a surrogate pair") end
  if code < 0xD800 or code > 0xDBFF then return utf8(code), at + 5 end
  local low = tonumber(match(text, "^\\u(%x%x%x%x)", at + 5) or "0", 16)
  if low < 0xDC00 or low > 0xDFFF then fail(text, at, "half a surrogate pair") end
  return utf8(0x10000 + (code - 0xD800) * 1024 + low - 0xDC00), at + 11
end

local function read_string(text, at)
  local start, pieces = at + 1, nil
  while true do
    local stop = find(text, '["\\%c]', start)
    local what = stop and sub(text, stop, stop)
    if what == '"' then
      if not pieces then return sub(text, start, stop - 1), stop + 1 end
      insert(pieces, sub(text, start, stop - 1))
      return concat(pieces), stop + 1
    elseif what == "\127" then
      pieces = pieces or {}
      insert(pieces, sub(text, start, stop))
      start = stop + 1
    elseif what == "\\" then
      pieces = pieces or {}
      insert(pieces, sub(text, start, stop - 1))
      local piece
      piece, start = escape_at(text, stop + 1)
      insert(pieces, piece)
    else
      fail(text, stop or #text + 1, "a string that does not end")
    end
  end
end

local function write_number(value)
  if value == floor(value) and value > -1e15 and value < 1e15 then return format("%d", value) end
  for digits = 15, 16 do
    local text = format("%." .. digits .. "g", value)
    if tonumber(text) == value then return text end
  end
  return format("%.17g", value)
end

local function read_number(text, at)
  local raw = match(text, "^-?%d+%.?%d*[eE]?[+-]?%d*", at)
  local value = raw and match(raw, "^-?[%d]+$") and not match(raw, "^-?0%d") and tonumber(raw)
  if raw and not value and not match(raw, "^-?0%d") and
    (match(raw, "^-?%d+%.%d+$") or match(raw, "^-?%d+[eE][+-]?%d+$") or match(raw, "^-?%d+%.%d+[eE][+-]?%d+$")) then
    value = tonumber(raw)
  end
  if not value then fail(text, at, "something that is no value") end
  return value, at + #raw, raw
end

local read_value

local function keep_number(shape, key, value, raw)
  if raw and write_number(value) ~= raw then
    shape.raw = shape.raw or {}
    shape.raw[key] = { value, raw }
  end
end

local function read_object(text, at, depth)
  local made, keys = {}, {}
  local shape = { keys = keys }
  shapes[made] = shape
  at = skip(text, at + 1)
  if byte(text, at) == 125 then return made, at + 1 end
  while true do
    if byte(text, at) ~= 34 then fail(text, at, "no key") end
    local key, value, raw
    key, at = read_string(text, at)
    at = skip(text, at)
    if byte(text, at) ~= 58 then fail(text, at, "no colon") end
    value, at, raw = read_value(text, skip(text, at + 1), depth)
    insert(keys, key)
    if value == null then
      shape.nulls = shape.nulls or {}
      shape.nulls[key] = true
    else
      made[key] = value
      keep_number(shape, key, value, raw)
    end
    at = skip(text, at)
    local what = byte(text, at)
    if what == 125 then return made, at + 1 end
    if what ~= 44 then fail(text, at, "neither comma nor }") end
    at = skip(text, at + 1)
  end
end

local function read_array(text, at, depth)
  local made = {}
  local shape = { is_array = true, count = 0 }
  shapes[made] = shape
  at = skip(text, at + 1)
  if byte(text, at) == 93 then return made, at + 1 end
  while true do
    local value, raw
    value, at, raw = read_value(text, at, depth)
    shape.count = shape.count + 1
    if value == null then
      shape.nulls = shape.nulls or {}
      shape.nulls[shape.count] = true
    else
      made[shape.count] = value
      keep_number(shape, shape.count, value, raw)
    end
    at = skip(text, at)
    local what = byte(text, at)
    if what == 93 then return made, at + 1 end
    if what ~= 44 then fail(text, at, "neither comma nor ]") end
    at = skip(text, at + 1)
  end
end

function read_value(text, at, depth)
  local what = byte(text, at)
  if what == 34 then
    return read_string(text, at)
  elseif what == 123 or what == 91 then
    if depth >= MAX_DEPTH then fail(text, at, "more than " .. MAX_DEPTH .. " levels") end
    return (what == 123 and read_object or read_array)(text, at, depth + 1)
  elseif what == 116 and sub(text, at, at + 3) == "true" then
    return true, at + 4
  elseif what == 102 and sub(text, at, at + 4) == "false" then
    return false, at + 5
  elseif what == 110 and sub(text, at, at + 3) == "null" then
    return null, at + 4
  end
  return read_number(text, at)
end

local function read_whole(text)
  local value, at, raw = read_value(text, skip(text, 1), 0)
  at = skip(text, at)
  if at <= #text then fail(text, at, "something after the end") end
  return value, raw
end

-- Writing ---------------------------------------------------------------------------------------------

local CONTROL = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t" }

local function write_string(text)
  return '"' .. gsub(text, '[%z\1-\31"\\]', function(one)
    return CONTROL[one] or format("\\u%04x", byte(one))
  end) .. '"'
end

local write_value

local function write_member(shape, key, value, depth)
  local raw = shape and shape.raw and shape.raw[key]
  if raw and raw[1] == value then return raw[2] end
  return write_value(value, depth)
end

local function length_of(made, shape)
  local count = shape and shape.is_array and shape.count or 0
  while count > 0 and made[count] == nil and not (shape.nulls and shape.nulls[count]) do count = count - 1 end
  for key in pairs(made) do
    if type(key) ~= "number" or key < 1 or key ~= floor(key) then return nil end
    if key > count then count = key end
  end
  return count
end

local function write_array(made, shape, count, depth)
  local pieces = {}
  for i = 1, count do
    local value = rawget(made, i)
    pieces[i] = value == nil and "null" or write_member(shape, i, value, depth)
  end
  return "[" .. concat(pieces, ",") .. "]"
end

local function write_object(made, shape, depth)
  local pieces, seen, others = {}, {}, {}
  for _, key in ipairs(shape and shape.keys or {}) do
    local value = rawget(made, key)
    seen[key] = true
    if value ~= nil then
      insert(pieces, write_string(key) .. ":" .. write_member(shape, key, value, depth))
    elseif shape.nulls and shape.nulls[key] then
      insert(pieces, write_string(key) .. ":null")
    end
  end
  for key in pairs(made) do
    if type(key) ~= "string" and type(key) ~= "number" then
      error({ problem = "a key that is a " .. type(key) }, 0)
    end
    if not seen[key] then insert(others, key) end
  end
  sort(others, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(others) do
    insert(pieces, write_string(tostring(key)) .. ":" .. write_value(rawget(made, key), depth))
  end
  return "{" .. concat(pieces, ",") .. "}"
end

local function write_table(made, depth)
  if depth >= MAX_DEPTH then error({ problem = "more than " .. MAX_DEPTH .. " levels, or a circle" }, 0) end
  local shape = shapes[made]
  local count = length_of(made, shape)
  local is_array = count and (count > 0 or (shape and shape.is_array)) and not (shape and shape.keys and #shape.keys > 0)
  if is_array then
    if count > (shape and shape.count or 0) + 2 * #made + 1000 then error({ problem = "an array with holes" }, 0) end
    return write_array(made, shape, count, depth + 1)
  end
  return write_object(made, shape, depth + 1)
end

function write_value(value, depth)
  local kind = type(value)
  if value == nil or value == null then
    return "null"
  elseif kind == "string" then
    return write_string(value)
  elseif kind == "boolean" then
    return tostring(value)
  elseif kind == "table" then
    return write_table(value, depth)
  elseif kind ~= "number" then
    error({ problem = "a " .. kind }, 0)
  elseif value ~= value or value == huge or value == -huge then
    error({ problem = "a number that is none" }, 0)
  end
  return write_number(value)
end

-- The module ------------------------------------------------------------------------------------------

local last_problem = ""

local function result(ok, value, raw)
  if ok then return value end
  if type(value) ~= "table" or not value.problem then error(value, 0) end
  last_problem = value.problem
  return nil, 1, "json: " .. value.problem
end

local function decode(text)
  if type(text) ~= "string" then return nil, 1, "json: text is wanted" end
  local value, code, problem = result(pcall(read_whole, text))
  if value == null then value = nil end
  return value, code, problem
end

local function encode(value)
  return result(pcall(write_value, value, 0))
end

host.json_decode, host.json_encode = decode, encode

function host.json()
  return {
    decode = decode, encode = encode, null = null,
    new = function() return {} end,
    strerror = function(code) return code == 1 and "json: " .. last_problem or "" end,
  }
end
