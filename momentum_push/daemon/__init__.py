"""Build, join, signals, reload: the only maker of objects.

Lives here: the daemon as a whole (`daemon`), what can be said of a configuration before it is used
(`checks`), pictures for those who look in (`status`), and the service around it (`service`). Called by
the commands `serve`, `check` and `demo` alone.
"""

from momentum_push.daemon.checks import validate
from momentum_push.daemon.daemon import Daemon
from momentum_push.daemon.service import Notifier, serve

__all__ = ["Daemon", "Notifier", "serve", "validate"]
