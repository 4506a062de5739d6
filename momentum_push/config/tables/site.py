"""Options of the process as a whole: global scope, `security` (momentum.md 6, 10.4; interfaces.md 2)."""

from momentum_push.config.values import Kind, Option

__all__ = ["ROWS"]

_GLOBAL = ("global",)
_RESIDENT = ("binding", "binding_group", "global")

_SPOOL = (
    Option("spoolbase", Kind.OUTPUT, "/var/spool/ecelerity", _GLOBAL, help="folder of the spool; restart"),
    Option("spool_mode", Kind.MODE, 0o640, _GLOBAL, help="mode of its files; restart"),
    Option("force_fsync", Kind.BOOLEAN, True, _GLOBAL, help="fsync before a message is acknowledged"),
    Option(
        "min_free_space",
        Kind.INTEGER,
        10485760,
        _GLOBAL,
        "bytes",
        "with less room on the spool's disk input is refused; 0 = any is enough",
    ),
    Option(
        "min_free_inodes",
        Kind.INTEGER,
        100,
        _GLOBAL,
        "inodes",
        "the same for inodes",
    ),
    Option(
        "max_resident_messages",
        Kind.INTEGER,
        32768,
        _RESIDENT,
        help="in memory; the rest stays on disk; 0 = no limit",
    ),
    Option(
        "max_resident_bytes",
        Kind.INTEGER,
        268435456,
        _GLOBAL,
        "bytes",
        "beside max_resident_messages; 0 = no limit",
    ),
    Option(
        "max_idempotency_keys",
        Kind.INTEGER,
        10_000_000,
        _GLOBAL,
        help="known for a day each; more, and the oldest go earlier",
        low=1,
    ),
    Option("max_resident_transfails", Kind.INTEGER, 100, _GLOBAL, help="Momentum's; no effect"),
    Option("memory_hwm", Kind.INTEGER, 95, _GLOBAL, "percent", "above it input is refused", high=100),
    Option("memory_goal", Kind.INTEGER, 90, _GLOBAL, "percent", "below it input is welcome again", high=100),
    Option(
        "delayed_queue_scan_interval",
        Kind.INTEGER,
        15,
        _GLOBAL,
        "seconds",
        "upper bound between looks at a queue",
        low=1,
    ),
    Option("delayed_binding_domain_fuzz", Kind.INTEGER, 0, _GLOBAL, "seconds", "spreads bulk requeues"),
    Option("exclude_vctx_mess", Kind.LIST, [], _GLOBAL, help="regexes: message context that is not spooled"),
    Option(
        "exclude_vctx_conn", Kind.LIST, [], _GLOBAL, help="regexes: connection context that is not spooled"
    ),
    Option(
        "default_binding",
        Kind.CHOICE,
        "normal",
        _GLOBAL,
        help="what messages without binding meet",
        choices=("normal", "suspended", "none"),
    ),
)

_PROCESS = (
    Option("pidfile", Kind.OUTPUT, "", _GLOBAL, help="where the process id is written; empty = nowhere"),
    Option(
        "receivers", Kind.INTEGER, 0, _GLOBAL, help="processes for the doors; 0 = inside the core", high=256
    ),
    Option(
        "drain_timeout",
        Kind.INTEGER,
        15,
        _GLOBAL,
        "seconds",
        "SIGTERM waits so long for answers that are due",
    ),
    Option("apn_reasons_file", Kind.FILE, "", _GLOBAL, help="YAML rows over the built-in reason table"),
    Option("apn_push_types", Kind.LIST, [], _GLOBAL, help="further push types, accepted as they are"),
    Option("local_changes_file", Kind.PATH, "", _GLOBAL, help="conf file that is read last"),
    Option("local_changes_only", Kind.BOOLEAN, False, _GLOBAL, help="all console changes go to that file"),
    Option("log_hires_timestamp", Kind.BOOLEAN, False, _GLOBAL, help="microseconds in records"),
    Option(
        "timestampformat",
        Kind.STRING,
        "[%a %d %b %Y %H:%M:%S] ",
        _GLOBAL,
        help="of diagnostics on a terminal",
    ),
    Option("match_cache_size", Kind.INTEGER, 16384, _GLOBAL, help="resolved domains kept in memory", low=1),
)

_SECURITY = (
    Option("user", Kind.STRING, "", ("security",), help="run as this user"),
    Option("group", Kind.STRING, "", ("security",), help="run as this group"),
    Option("supplemental_groups", Kind.LIST, [], ("security",), help="further groups"),
    Option(
        "capabilities",
        Kind.STRING,
        "",
        ("security",),
        help="e.g. cap_net_bind_service+ep; systemd grants them",
    ),
    Option("chroot", Kind.PATH, "", ("security",), help="root folder of the process"),
)

ROWS = _SPOOL + _PROCESS + _SECURITY
