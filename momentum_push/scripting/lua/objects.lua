-- What scripts hold of the objects of a call: a table with a number in it, good until the hook returns.
--
-- Fields are asked for when a script looks at them, one crossing to Python each; methods are made once from the
-- lists in Python. `req.json` is read and written here, so that the payload crosses as text, and back only if
-- it changed.

local host, get, set, invoke, lists = ...

local setmetatable, rawget, pairs, next, type, error = setmetatable, rawget, pairs, next, type, error
local receive = host.receive
local decode, encode = host.json_decode, host.json_encode

local HANDLE = {}
local kinds = {}
local trees = {}  -- of this call: request → { decoded, text }

local function checked(self, name)
  local handle = type(self) == "table" and rawget(self, HANDLE)
  if not handle then error("call it with a colon: object:" .. name .. "(…)", 3) end
  return handle
end

local function methods_of(names)
  local made = {}
  for i = 1, #names do
    local name = names[i]
    made[name] = function(self, ...)
      return receive(invoke(checked(self, name), name, ...))
    end
  end
  return made
end

local function kind_of(names)
  local methods = methods_of(names)
  return methods, {
    __index = function(self, name)
      local method = methods[name]
      if method then return method end
      return receive(get(rawget(self, HANDLE), name))
    end,
    __newindex = function(self, name, value)
      return receive(set(rawget(self, HANDLE), name, value))
    end,
    __tostring = function(self) return receive(get(rawget(self, HANDLE), "__repr__")) end,
    __metatable = false,
  }
end

for kind, names in pairs(lists) do
  local methods
  methods, kinds[kind] = kind_of(names)
  if kind == "req" then
    local index, newindex = kinds.req.__index, kinds.req.__newindex
    methods.header = nil
    kinds.req.__index = function(self, name)
      if name == "json" then
        local known = trees[self]
        if not known then
          local text = receive(get(rawget(self, HANDLE), "payload"))
          local tree, _, problem = decode(text)
          if problem then error(problem, 2) end
          known = { tree, text }
          trees[self] = known
        end
        return known[1]
      elseif name == "headers" then
        local handle = rawget(self, HANDLE)
        return setmetatable({}, {
          __index = function(_, header) return receive(invoke(handle, "header", header)) end,
          __newindex = function(_, header, value)
            return receive(invoke(handle, "header", header, value == nil and "" or value))
          end,
          __metatable = false,
        })
      end
      return index(self, name)
    end
    kinds.req.__newindex = function(self, name, value)
      if name == "json" then
        local known = trees[self]
        trees[self] = { value, known and known[2] or receive(get(rawget(self, HANDLE), "payload")) }
      else
        if name == "payload" then trees[self] = nil end
        return newindex(self, name, value)
      end
    end
  elseif kind == "msg" then
    methods.get_envelope2 = function(self, flags, localpart, domain)
      local first, second = receive(invoke(checked(self, "get_envelope2"), "envelope", flags))
      if localpart then localpart.buffer = first end
      if domain then domain.buffer = second end
      return true
    end
  end
end

function host.wrap(kind, value)
  local meta = kinds[kind]
  if not meta then return value end
  return setmetatable({ [HANDLE] = value }, meta)
end

-- After the function, still inside its budget: payloads that changed go back.
function host.flush()
  for req, known in pairs(trees) do
    local tree, text = known[1], known[2]
    local now, _, problem = encode(tree)
    if problem then error("req.json: " .. problem, 0) end
    if now ~= text and now ~= encode((decode(text))) then
      receive(set(rawget(req, HANDLE), "payload", now))
    end
  end
end

function host.forget()
  if next(trees) then trees = {} end
end

local buffer = { __tostring = function(self) return self.buffer end, __len = function(self) return #self.buffer end }

function host.string_new(text)
  return setmetatable({ buffer = text or "" }, buffer)
end
