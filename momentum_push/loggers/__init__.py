"""Loggers: records of what became of every message, and the daemon's own diagnostics.

Lives here: record formats and macros (`macros`, `columns`, `escape`, `names`: pure), the loggers that
write them (`apn_logger`, `ec_logger`, `json_logger`), files that survive a full disk and rotation
(`file`), the hub that the daemon talks to (`hub`), and structlog's set-up (`diagnostics`). What happens to
messages is decided elsewhere; here it is only written down. Called by intake (receptions), settle
(dispositions), the doors (rejections, authentications) and the daemon (heartbeats, panics, reopen).

    doors, intake, settle ──► Loggers ──► RecordLogger … ──► Sink ──► file
"""

from momentum_push.loggers.hub import KINDS, Loggers, build, validate
from momentum_push.loggers.records import Authentication, RecordLogger, Rejection

__all__ = ["KINDS", "Authentication", "Loggers", "RecordLogger", "Rejection", "build", "validate"]
