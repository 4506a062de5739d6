"""Lua: Momentum's scripts in the Lua 5.1 that lupa brings, behind walls.

runtime.py    one interpreter: loads scripts, calls their functions by number, keeps time and memory
bridge.py     the crossing: objects by number, values as bytes and numbers, services by name
library.py    what `msys.pcre` and its like do, in Python
sandbox.lua   budgets, environments, `require`, `module`
objects.lua   what scripts hold of req, resp, msg, vctx and accept
json.lua      JSON that comes out as it came in
msys.lua      the `msys` table
"""

from momentum_push.scripting.lua.runtime import LuaFunction, LuaRuntime, Overrun

__all__ = ["LuaFunction", "LuaRuntime", "Overrun"]
