-- The walls around scripts: budgets, and the environment each of them lives in.
--
--   Python ── run(id, …) ──► rawpcall(body) ──► the script's function
--                                │ tick(), every COUNT instructions
--                                └ over? ─► error, and from then on a tick at every instruction, so that no
--                                           loop around a pcall goes on; pcall, xpcall and coroutines are
--                                           wrapped and pass the error on
--
-- Everything is captured in locals first: what a script does to its own tables changes nothing here. The
-- interpreter's own globals are emptied: lupa looks `debug` up in them before each call, unprotected, so no script
-- may ever reach that table (a metatable such as strict's on it would end the process).

local host, clock, invoke = ...

local assert, error, getfenv, getmetatable, ipairs, loadstring, next, pairs, pcall, rawget, rawset, select, setfenv,
  setmetatable, tonumber, tostring, type, unpack, xpcall =
  assert, error, getfenv, getmetatable, ipairs, loadstring, next, pairs, pcall, rawget, rawset, select, setfenv,
  setmetatable, tonumber, tostring, type, unpack, xpcall
local sethook, getinfo = debug.sethook, debug.getinfo
local co_create, co_resume, co_yield, co_running, co_status =
  coroutine.create, coroutine.resume, coroutine.yield, coroutine.running, coroutine.status
local byte, rep, concat, insert, find, gmatch, match =
  string.byte, string.rep, table.concat, table.insert, string.find, string.gmatch, string.match
local collect = collectgarbage
local table, math, os, rawequal = table, math, os, rawequal
local real = _G

local COUNT = 1000
local MAX_REP = 16 * 1024 * 1024

local over, started, limit, limit_text
local trusted = {}

-- Budgets ---------------------------------------------------------------------------------------------

local function tick()
  if over then
    if trusted[getinfo(2, "f").func] then
      return sethook(tick, "", COUNT)
    end
    error(over, 2)
  end
  local at = clock()
  if not started then
    started = at
  elseif at - started > limit then
    over = limit_text
    sethook(tick, "", 1)
    error(over, 2)
  end
end

local function stop(text)  -- what is over cannot be caught
  over = text
  sethook(tick, "", 1)
  error(text, 0)
end

-- What Python answers: how to read it, and values; see bridge.py.
local function receive(kind, first, ...)
  if kind == 1 then
    return first, ...
  elseif kind == 2 then
    return { first, ... }
  elseif kind == 3 then
    local found, flat = {}, { first, ... }
    for i = 1, select("#", ...) + 1, 2 do
      if flat[i] ~= nil then found[flat[i]] = flat[i + 1] end
    end
    return found
  elseif kind == 4 then
    return stop(first)
  end
  error(first, 3)  -- this, the method or metamethod that asked, and the script
end

local function receive_service(kind, first, ...)
  if kind == 0 then error(first, 4) end  -- this, service, the function of msys, and the script
  return receive(kind, first, ...)
end

-- What no pcall may swallow: at the end of C's stack not even tick can be called, so that a loop around a pcall
-- there would never be seen; and what catches "not enough memory" goes on eating.
local function after(ok, problem, ...)
  if not over and not ok and type(problem) == "string" then
    if find(problem, "C stack overflow", 1, true) or find(problem, "error in error handling", 1, true) then
      over = "the script nests too many calls (C stack overflow)"
    elseif find(problem, "not enough memory", 1, true) then
      over = "not enough memory"
    end
  end
  if over then error(over, 0) end
  return ok, problem, ...
end

local function service(...)
  return receive_service(invoke(0, ...))
end

host.receive, host.service = receive, service

-- The one way in: functions are called by number, so that no Lua object ever crosses to Python.

local functions, numbers = {}, 0

function host.keep(fn, self, kinds, name)
  numbers = numbers + 1
  functions[numbers] = { fn = fn, self = self, kinds = kinds, name = name }
  return numbers
end

local NONE = {}

local function body(entry, a, b, c, d)
  local kinds, wrap = entry.kinds, host.wrap
  if kinds[1] then a = wrap(kinds[1], a) end
  if kinds[2] then b = wrap(kinds[2], b) end
  if kinds[3] then c = wrap(kinds[3], c) end
  if kinds[4] then d = wrap(kinds[4], d) end
  local result
  if entry.self ~= nil then
    result = entry.fn(entry.self, a, b, c, d)
  else
    result = entry.fn(a, b, c, d)
  end
  host.flush()
  return result
end

local function finish(ok, result)
  local text = over
  over, started = nil, nil
  host.forget()
  if not ok or text then
    return false, text and (type(result) == "string" and result or text) or tostring(result)
  end
  local kind = type(result)
  if kind == "number" or kind == "string" or kind == "boolean" then return true, result end
  return true
end

local function run(seconds, text, fn, ...)
  over, started, limit, limit_text = nil, nil, seconds, text
  return finish(pcall(fn, ...))
end

trusted[run], trusted[finish] = true, true

local call_seconds, call_text

function host.call(id, a, b, c, d)
  return run(call_seconds, call_text, body, functions[id], a, b, c, d)
end
trusted[host.call] = true

function host.configure(seconds, text)
  call_seconds, call_text = seconds, text
end

function host.drop(id)
  functions[id] = nil
end

sethook(tick, "", COUNT)

-- Environments ----------------------------------------------------------------------------------------

local function copy(from, without)
  local to = {}
  for name, value in pairs(from) do
    if not (without and without[name]) then to[name] = value end
  end
  return to
end

local function safe_rep(text, count)
  if type(text) == "string" and type(count) == "number" and #text * count > MAX_REP then
    error("string.rep: the result would be longer than " .. MAX_REP .. " bytes", 2)
  end
  return rep(text, count)
end

local strings = copy(string, { dump = true })
strings.rep = safe_rep
getmetatable("").__index = strings
getmetatable("").__metatable = false

local function create(fn)
  local thread = co_create(fn)
  sethook(thread, tick, "", over and 1 or COUNT)
  return thread
end

local function resume(...)
  return after(co_resume(...))
end

local function unwrap(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

local threads = {
  create = create, resume = resume, yield = co_yield, running = co_running, status = co_status,
  wrap = function(fn)
    local thread = create(fn)
    return function(...) return unwrap(after(co_resume(thread, ...))) end
  end,
}

local function checked(text, name, env)
  if type(text) ~= "string" then error("text is wanted, not a " .. type(text), 3) end
  if byte(text, 1) == 27 then return nil, "compiled chunks are not loaded" end
  local fn, problem = loadstring(text, name)
  if fn then setfenv(fn, env) end
  return fn, problem
end

local function environment_of(fn)
  local env = getfenv(fn)
  return env ~= real and env or nil
end

local function walls(env)
  local loaded, preload = {}, {}

  env.assert, env.error, env.ipairs, env.next, env.pairs = assert, error, ipairs, next, pairs
  env.rawequal, env.rawget, env.rawset, env.select = rawequal, rawget, rawset, select
  env.setmetatable, env.getmetatable = setmetatable, getmetatable
  env.tonumber, env.tostring, env.type, env.unpack = tonumber, tostring, type, unpack
  env._VERSION, env._G = "Lua 5.1", env
  env.string, env.table, env.math = copy(strings), copy(table), copy(math)
  env.coroutine = copy(threads)
  env.os = { time = os.time, date = os.date, clock = os.clock, difftime = os.difftime }

  function env.pcall(fn, ...)
    return after(pcall(fn, ...))
  end
  function env.xpcall(fn, handler)
    -- an error that tick raises is handled inside the hook, where nothing is counted: no script may run there
    return after(xpcall(fn, function(problem)
      if over then return problem end
      return handler(problem)
    end))
  end
  function env.print(...)
    local words = {}
    for i = 1, select("#", ...) do words[i] = tostring((select(i, ...))) end
    service("print", concat(words, "\t"))
  end
  function env.loadstring(text, name)
    local fn, problem = checked(text, name or text, env)
    return fn, problem
  end
  function env.load(reader, name)
    local pieces = {}
    while true do
      local piece = reader()
      if piece == nil or piece == "" then break end
      insert(pieces, piece)
    end
    local fn, problem = checked(concat(pieces), name or "=(load)", env)
    return fn, problem
  end
  function env.getfenv(fn)
    if fn == 0 then return env end
    if type(fn) == "function" then return environment_of(fn) or env end
    return environment_of((fn or 1) + 2) or env  -- two levels are ours
  end
  function env.setfenv(fn, new)
    if type(fn) == "number" then
      if fn == 0 then error("setfenv: the environment of the thread stays as it is", 2) end
      if not environment_of(fn + 2) then error("setfenv: no script stands at that level", 2) end
      setfenv(fn + 1, new)
    else
      if type(fn) == "function" and not environment_of(fn) then
        error("setfenv: that function keeps its environment", 2)
      end
      setfenv(fn, new)
    end
    return fn
  end
  function env.collectgarbage(what)
    what = what or "collect"
    if what == "count" or what == "collect" or what == "step" then return collect(what) end
    return 0
  end
  env.gcinfo = function() return collect("count") end

  local function field(name, make)
    local at = env
    for part in gmatch(name, "[^.]+") do
      if rawget(at, part) == nil then
        if not make then return nil end
        rawset(at, part, {})
      end
      at = rawget(at, part)
      if type(at) ~= "table" then return nil end
    end
    return at
  end

  function env.require(name)
    if type(name) ~= "string" then error("require: a name is wanted", 2) end
    if loaded[name] ~= nil then return loaded[name] end
    if host.provided[name] then
      loaded[name] = field(name) or true
      host.provide(name, env)
      return loaded[name]
    end
    local fn, problem = preload[name], nil
    if not fn then
      local where, text = service("source", name)
      if not where then error("module '" .. name .. "' not found: " .. text, 2) end
      fn, problem = checked(text, "@" .. where, env)
      if not fn then error(problem, 0) end
    end
    local result = fn(name)
    if result ~= nil then
      loaded[name] = result
    elseif loaded[name] == nil then
      loaded[name] = true
    end
    return loaded[name]
  end
  function env.module(name, ...)
    local made = type(loaded[name]) == "table" and loaded[name] or field(name, true)
    if not made then error("module: the name '" .. name .. "' is taken", 2) end
    loaded[name] = made
    made._M, made._NAME, made._PACKAGE = made, name, match(name, "^(.*%.)[^.]*$") or ""
    for i = 1, select("#", ...) do (select(i, ...))(made) end
    setfenv(2, made)
  end
  env.package = {
    loaded = loaded, preload = preload, path = "", cpath = "",
    seeall = function(made) setmetatable(made, { __index = env }) end,
  }
  loaded._G, loaded.string, loaded.table, loaded.math = env, env.string, env.table, env.math
  loaded.coroutine, loaded.os, loaded.package = env.coroutine, env.os, env.package
  return env
end

-- strict: a global must be assigned in the main chunk before a function may use it.
function host.strict(env)
  local declared = {}
  local old = getmetatable(env)
  if old and old.__strict then return end
  local function is_main()
    local info = getinfo(3, "S")
    return info and info.what ~= "Lua"
  end
  setmetatable(env, {
    __strict = true,
    __newindex = function(t, name, value)
      if not declared[name] then
        if not is_main() then error("assign to undeclared variable '" .. tostring(name) .. "'", 2) end
        declared[name] = true
      end
      rawset(t, name, value)
    end,
    __index = function(_, name)
      if not declared[name] then error("variable '" .. tostring(name) .. "' is not declared", 2) end
    end,
  })
end

-- Scripts ---------------------------------------------------------------------------------------------

local registered

function host.register(name, mod)
  if not registered then error("registerModule: call it while the script is loaded", 2) end
  if type(mod) ~= "table" then error("registerModule: a table of functions is wanted", 2) end
  local count = 0
  for _, hook in ipairs(host.hooks) do
    local fn = mod[hook]
    if type(fn) == "function" then
      count = count + 1
      insert(registered, hook)
      insert(registered, host.keep(fn, mod, host.kinds[hook], name))
    end
  end
  if count == 0 then
    error("no usable methods found for module " .. tostring(name) .. " in registerModule call", 2)
  end
end

local function load_body(text, name)
  local env = host.furnish(walls({}))
  local fn, problem = checked(text, name, env)
  if not fn then error(problem, 0) end
  fn()
end

-- Runs a script's main chunk: true, hook, number, hook, number, … or false and what is wrong.
function host.load(seconds, message, text, name)
  registered = {}
  local ok, problem = run(seconds, message, load_body, text, name)
  local found = registered
  registered = nil
  if not ok then
    for i = 2, #found, 2 do functions[found[i]] = nil end
    return false, problem
  end
  return true, unpack(found)
end
trusted[host.load] = true

-- Called once, when all our files have run: nothing is left in the interpreter's own globals but what lupa asks for.
function host.seal()
  for name in pairs(copy(real)) do real[name] = nil end
  real.debug = false
end
