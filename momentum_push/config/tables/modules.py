"""Options of modules: loggers, doors, scripts, roles (momentum.md 1.7, 3.5, 5.1, 8, 9.1; interfaces.md 5)."""

from momentum_push.config.values import Kind, Option

__all__ = ["MODULES", "ROWS"]

MODULES = ("apn", "apn_logger", "ec_logger", "json_logger", "httpsrv", "restinjector", "scriptlet")

_LOGS = "/var/log/ecelerity/"  # beside /etc/momentum-push; Momentum's own folder was its own

_COMMON = (
    Option("enabled", Kind.BOOLEAN, True, MODULES, help="false: loaded but passive"),
    Option(
        "debug_level",
        Kind.CHOICE,
        "error",
        MODULES,
        help="diagnostics of this module",
        choices=("debug", "info", "notice", "warning", "error", "critical"),
    ),
    Option("thread_pool", Kind.STRING, "", ("apn_logger", "ec_logger", "json_logger"), help="no effect"),
    Option("concurrency", Kind.INTEGER, 1, ("apn_logger",), help="no effect: records are written in order"),
    Option(
        "heartbeat",
        Kind.INTEGER,
        60,
        ("apn_logger", "ec_logger", "json_logger"),
        "seconds",
        "between markers; 0 = none",
    ),
)

_APN_LOGGER = (
    Option("logfile", Kind.OUTPUT, _LOGS + "apnlog.ec", ("apn_logger",), help="file of the records"),
    Option("logmode", Kind.MODE, 0o644, ("apn_logger", "json_logger"), help="its mode"),
    Option("log_delivery", Kind.BOOLEAN, True, ("apn_logger",), help="D records"),
    Option("log_permfail", Kind.BOOLEAN, True, ("apn_logger",), help="P records"),
    Option("log_tempfail", Kind.BOOLEAN, True, ("apn_logger",), help="T records"),
    Option(
        "log_delivery_format",
        Kind.STRING,
        '%t@D@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti',
        ("apn_logger",),
        help="format of D records",
    ),
    Option(
        "log_permfail_format",
        Kind.STRING,
        "%t@P@%i@%sa@%da@%d@%g@%b@%H@%S@%e",
        ("apn_logger",),
        help="format of P records",
    ),
    Option(
        "log_tempfail_format",
        Kind.STRING,
        '%t@T@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti@%S@%e',
        ("apn_logger",),
        help="format of T records",
    ),
    Option("log_heartbeat_format", Kind.STRING, "%t@M", ("apn_logger",), help="format of markers"),
    Option(
        "namespace",
        Kind.STRING,
        "apn_logger,sieve,custom_logger",
        ("apn_logger",),
        help="macro families searched",
    ),
)

_EC_LOGGER = (
    Option(
        "mainlog", Kind.OUTPUT, _LOGS + "mainlog.ec", ("ec_logger",), help="receptions, deliveries, failures"
    ),
    Option("paniclog", Kind.OUTPUT, _LOGS + "paniclog.ec", ("ec_logger",), help="what should not happen"),
    Option("rejectlog", Kind.OUTPUT, _LOGS + "rejectlog.ec", ("ec_logger",), help="refused input"),
    Option("acctlog", Kind.OUTPUT, _LOGS + "acctlog.ec", ("ec_logger",), help="authentication"),
    Option("importlog", Kind.OUTPUT, _LOGS + "importlog.ec", ("ec_logger",), help="spool imports"),
    Option("mainlog_mode", Kind.MODE, 0o644, ("ec_logger",), help="mode of mainlog"),
    Option("paniclog_mode", Kind.MODE, 0o644, ("ec_logger",), help="mode of paniclog"),
    Option("rejectlog_mode", Kind.MODE, 0o644, ("ec_logger",), help="mode of rejectlog"),
    Option("acctlog_mode", Kind.MODE, 0o644, ("ec_logger",), help="mode of acctlog"),
    Option("importlog_mode", Kind.MODE, 0o644, ("ec_logger",), help="mode of importlog"),
)

_BOTH = ("ec_logger", "json_logger")

_RECORDS = (
    Option("logfile", Kind.OUTPUT, _LOGS + "records.json", ("json_logger",), help="file of the records"),
    Option("log_receptions", Kind.BOOLEAN, True, _BOTH, help="what came in"),
    Option("log_deliveries", Kind.BOOLEAN, True, _BOTH, help="what Apple took"),
    Option("log_transient_failures", Kind.BOOLEAN, True, _BOTH, help="what will be tried again"),
    Option("log_permanent_failures", Kind.BOOLEAN, True, _BOTH, help="what was given up"),
    Option("log_rejections", Kind.BOOLEAN, True, _BOTH, help="what was refused"),
    Option("log_errors", Kind.BOOLEAN, True, _BOTH, help="what should not happen"),
)

_JSON = (
    Option("log_device_tokens", Kind.BOOLEAN, False, ("json_logger",), help="whole tokens, not 8 digits"),
)  # fmt: skip

_DOORS = (
    Option("dot_stuff", Kind.BOOLEAN, False, ("restinjector",), help="double leading dots of the template"),
)

_SCRIPTS = (
    Option(
        "script_ttl",
        Kind.INTEGER,
        300,
        ("scriptlet",),
        "seconds",
        "after which a changed script is read again",
    ),
    Option("always_gc", Kind.BOOLEAN, False, ("scriptlet",), help="no effect"),
    Option("gc_pause", Kind.INTEGER, 200, ("scriptlet",), help="Lua's collector"),
    Option("gc_stepmul", Kind.INTEGER, 200, ("scriptlet",), help="Lua's collector"),
    Option("max_spare_per_master", Kind.INTEGER, 5000, ("scriptlet",), help="no effect"),
    Option("reap_interval", Kind.INTEGER, 120, ("scriptlet",), "seconds", "no effect"),
    Option(
        "script_time_limit",
        Kind.INTEGER,
        50,
        ("scriptlet",),
        "milliseconds",
        "of CPU time for one call of a hook",
        low=1,
        high=10_000,
    ),
    Option(
        "script_memory_limit",
        Kind.INTEGER,
        67108864,
        ("scriptlet",),
        "bytes",
        "for all Lua scripts of a process",
        low=4194304,
    ),
    Option("source", Kind.STRING, "", ("script",), help='file without extension, "policy.apn"'),
)

_ROLES = (
    Option("allow", Kind.LIST, [], ("role",), help="regexes of console commands"),
    Option("deny", Kind.LIST, [], ("role",), help="regexes of console commands"),
)

ROWS = _COMMON + _APN_LOGGER + _EC_LOGGER + _RECORDS + _JSON + _DOORS + _SCRIPTS + _ROLES
