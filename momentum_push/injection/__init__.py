"""The doors: SMTP and HTTP in, and the intake that puts what they bring on disk.

Lives here: listeners, sessions, the forms in which messages arrive, routing to a queue. Not here: what
a message must look like (message), how it is kept (spool). Called by the daemon alone.
"""

from momentum_push.injection.intake import Intake, IntakeBusy
from momentum_push.injection.routing import Routing

__all__ = ["Intake", "IntakeBusy", "Routing"]
