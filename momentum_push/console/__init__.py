"""The console: commands in, snapshots out, by the words of Momentum's `ec_console`.

Nothing lives here yet; `control_listener` loads with a warning. What comes: the command table, the views that
word the answers (pure), the server on a Unix or TCP socket, and the client. It will look in from the
side: the daemon gives it snapshots and takes commands, it imports no room that works.
"""
