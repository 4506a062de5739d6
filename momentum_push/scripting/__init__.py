"""Policy scripts: the hooks of Momentum's Lua and of Python, and what a script may touch.

Nothing lives here yet; `scriptlet` loads with a warning. What comes: the hooks as documented no-ops, the
loaders for Lua and Python, and the objects that a script sees. Intake and delivery will call it with
lists; a hook that nobody registered costs nothing.
"""
