-- `msys` and the modules that `require` knows (momentum.md 9.4, 9.6); each script has tables of its own.

local host, constants = ...

local service, register, keep = host.service, host.register, host.keep
local type, pairs, tostring, error, tonumber, setmetatable = type, pairs, tostring, error, tonumber, setmetatable

host.provided = {}
for _, name in pairs({
  "msys.core", "msys.apn", "msys.delivery", "msys.gcm", "msys.extended.message",
  "msys.extended.message_routing", "msys.extended.ac", "msys.pcre", "msys.base64", "msys.counter", "msys.timer", "json", "strict",
}) do
  host.provided[name] = true
end

function host.provide(name, env)
  if name == "strict" then host.strict(env) end
end

local function table_of(name)
  local made = {}
  for key, value in pairs(constants[name]) do made[key] = value end
  return made
end

local function text(value)
  return type(value) == "table" and tostring(value) or value
end

local function path_of(counter)
  return type(counter) == "table" and counter.path or counter
end

local function context(name)
  return function(msg, ...) return msg[name](msg, ...) end
end

local function callback(fn, what)
  if type(fn) ~= "function" then error("msys." .. what .. ": a function is wanted", 3) end
  return keep(fn, nil, {}, what)
end

local function control(fn)
  return keep(function(words)
    local argv, count = {}, 0
    for word in words:gmatch("[^\n]+") do
      argv[count] = word
      count = count + 1
    end
    return fn({ argc = count, argv = argv })
  end, nil, {}, "registerControl")
end

function host.furnish(env)
  local msys = {}

  msys.core = table_of("core")
  msys.core.string_new = host.string_new
  msys.core.get_now_ts = function() return service("now") end
  for _, name in pairs({ "get", "set", "exists", "exists_and_get", "delete" }) do
    msys.core["ec_message_context_" .. name] = context("context_" .. name)
  end

  msys.apn = table_of("apn")
  msys.apn.apn_status_classifier = function(status) return service("apn_classify", tonumber(status)) end
  msys.delivery = table_of("delivery")
  msys.gcm = table_of("gcm")
  msys.gcm.gcm_classify_error = function(status) return service("gcm_classify", tonumber(status)) end
  msys.extended = { message = {}, message_routing = {}, ac = {} }

  msys.pcre = {
    match = function(subject, pattern) return service("pcre_match", text(subject), pattern) end,
    replace = function(subject, pattern, by) return service("pcre_replace", text(subject), pattern, by) end,
    split = function(subject, pattern) return service("pcre_split", text(subject), pattern) end,
  }
  msys.base64 = {
    encode = function(original, fold) return service("base64_encode", text(original), fold and true or false) end,
    decode = function(encoded) return service("base64_decode", text(encoded)) end,
  }

  msys.counter = table_of("counter")
  msys.counter.open = function(path)
    service("counter", "open", path, 0)
    return setmetatable({ path = path }, { __tostring = function(self) return self.path end })
  end
  msys.counter.inc = function(counter) return service("counter", "add", path_of(counter), 1) end
  msys.counter.add = function(counter, delta) return service("counter", "add", path_of(counter), delta) end
  for _, name in pairs({ "read", "reset", "unlink" }) do
    msys.counter[name] = function(counter) return service("counter", name, path_of(counter), 0) end
  end

  msys.timer = {}
  for _, name in pairs({ "after", "at", "every" }) do
    msys.timer[name] = function(seconds, fn, label)
      return service("timer", name, seconds, callback(fn, "timer." .. name), label)
    end
  end

  msys.registerModule = register
  msys.registerControl = function(prefix, fn)
    if type(fn) ~= "function" then error("msys.registerControl: a function is wanted", 2) end
    service("control", prefix, control(fn))
  end
  msys.config = function(...) return service("config", ...) end
  msys.expandMacro = function(macro) return service("expand_macro", macro) end
  msys.readfile = function(path) return service("read_file", path) end

  env.msys, env.json = msys, host.json()
  return env
end
