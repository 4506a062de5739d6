"""Options on the way out: queues, retry, connections, TLS and APNs (momentum.md 2.4, 6, 7; interfaces.md 2).

We deliver to APNs alone, so the timeouts' defaults are those that interfaces.md gives apn domains.
"""

from momentum_push.config.values import Kind, Option

__all__ = ["ROWS"]

_ALL = ("domain", "binding", "binding_group", "global")
_NO_DOMAIN = ("binding", "binding_group", "global")
_ROUTES = ("domain", "global")
_CONNECTIONS = ("domain", "binding", "binding_group", "global", "host")

_DELIVERY = (
    Option(
        "delivery_method",
        Kind.CHOICE,
        "esmtp",
        _ALL,
        help="how messages leave; only apn is served",
        choices=("esmtp", "smtp", "lmtp", "ecstream", "apn", "gcm", "mm7"),
    ),
    Option("routes", Kind.LIST, [], _ROUTES, help='where to connect: apn://host?port=N&pref=P, "host:port"'),
    Option(
        "auto_collapse",
        Kind.BOOLEAN,
        False,
        _ALL,
        help="an alert without apns-collapse-id has its apns-id for one: a copy replaces the first",
    ),
    Option(
        "collapse_waiting",
        Kind.BOOLEAN,
        False,
        _ALL,
        help="of waiting messages with one apns-collapse-id for one token only the newest is sent",
    ),
    Option(
        "delivery_weight",
        Kind.INTEGER,
        1,
        _ALL,
        help="share of a queue in what is sent while others are busy, too",
        low=1,
        high=100,
    ),
    Option("suspend_delivery", Kind.BOOLEAN, False, _ALL, help="no attempts; the queue waits"),
    Option(
        "blackhole",
        Kind.CHOICE,
        "false",
        _ALL,
        help="discard instead of delivering",
        choices=("false", "inline", "internal"),
        aliases={
            "true": "inline",
            "on": "inline",
            "enabled": "inline",
            "1": "inline",
            "off": "false",
            "disabled": "false",
            "0": "false",
        },
    ),
    Option("generate_bounces", Kind.BOOLEAN, True, _ALL, help="failure notices; APNs has none, so no effect"),
    Option(
        "proxy",
        Kind.PATH,
        "",
        ("domain", "binding", "global"),
        help="HTTP CONNECT proxy to APNs: http://[user:password@]host:port; none",
    ),
)

_RETRY = (
    Option(
        "retry_interval",
        Kind.INTEGER,
        1200,
        _ALL,
        "seconds",
        "wait after the first failure; then doubled",
        low=1,
    ),
    Option("max_retry_interval", Kind.INTEGER, 43200, _ALL, "seconds", "longest single wait", low=1),
    Option(
        "max_retries", Kind.INTEGER, "auto", _ALL, help="attempts after the first", choices=("auto", "none")
    ),
    Option(
        "message_expiration", Kind.INTEGER, 86400, _ALL, "seconds", "since reception; then one last attempt"
    ),
    Option("never_retry", Kind.BOOLEAN, False, _ALL, help="the first temporary failure is final"),
    Option("never_attempt_expired_messages", Kind.BOOLEAN, False, _ALL, help="no last attempt"),
    Option(
        "mx_failures_to_delay",
        Kind.INTEGER,
        1,
        _ROUTES,
        help="failed connects in a row that delay the whole queue; 0: never for that",
    ),
    Option(
        "host_failure_retry",
        Kind.INTEGER,
        120,
        _ROUTES,
        "seconds",
        "a failed address is avoided so long",
    ),
    Option(
        "connect_timeout_to_delay",
        Kind.INTEGER,
        900,
        _ALL,
        "seconds",
        "without a connection, until the whole queue is delayed; 0: never for that",
    ),
    Option(
        "max_resident_active_queue",
        Kind.INTEGER,
        250,
        _ALL,
        help="Momentum's; memory is bounded globally",
        low=-1,
    ),
)

_CONNECT = (
    Option(
        "max_outbound_connections",
        Kind.INTEGER,
        32,
        _CONNECTIONS,
        help="connections per binding and domain",
        low=-1,
    ),
    Option(
        "server_max_outbound_connections",
        Kind.INTEGER,
        75000,
        _NO_DOMAIN,
        help="whole server, or one binding",
    ),
    Option(
        "scope_max_outbound_connections",
        Kind.INTEGER,
        -1,
        _ALL,
        help="per domain over bindings; -1 off",
        low=-1,
    ),
    Option(
        "server_reserve_outbound_connections",
        Kind.INTEGER,
        200,
        _NO_DOMAIN,
        help="added on top of the server's",
    ),
    Option(
        "connection_allocation_aggressiveness",
        Kind.CHOICE,
        "normal",
        _ALL,
        help="how fast connections are opened",
        choices=("normal", "high"),
    ),
    Option("max_deliveries_per_connection", Kind.INTEGER, 0, _ALL, help="then it is replaced; 0 = no limit"),
    Option(
        "max_streams_per_connection", Kind.INTEGER, 1000, _CONNECTIONS, help="own limit under Apple's", low=1
    ),
    Option(
        "max_outbound_connection_age",
        Kind.INTEGER,
        86400,
        _CONNECTIONS,
        "seconds",
        "a connection is replaced at 75 to 100 % of it; 0 = never",
        low=0,
    ),
    Option("max_connects_per_minute", Kind.INTEGER, 120, _ALL, help="new connections per pool; 0 = no limit"),
    Option("connect_timeout", Kind.INTEGER, 10, _ALL, "seconds", "TCP, TLS and SETTINGS together", low=1),
    Option("idle_timeout", Kind.INTEGER, 3600, _ALL, "seconds", "idle connections close; 0 = never"),
    Option(
        "delivery_response_timeout",
        Kind.INTEGER,
        30000,
        ("domain", "binding", "binding_group", "global"),
        "milliseconds",
        "wait for an answer; then the outcome is unknown",
        floor=5000,
    ),
    Option(
        "outbound_throttle_messages", Kind.RATE, None, _ALL, help="messages per time, shared by all beneath"
    ),
    Option(
        "outbound_throttle_connections",
        Kind.RATE,
        None,
        _ALL,
        help="connects per time, shared by all beneath",
    ),
)

_TLS = (
    Option(
        "tls",
        Kind.CHOICE,
        "required",
        _ALL,
        help="APNs always uses TLS",
        choices=("no", "ifavailable", "required"),
    ),
    Option(
        "tls_verify",
        Kind.CHOICE,
        "host",
        _ALL,
        help="check the peer's certificate",
        choices=("no", "ca", "host", "optional"),
    ),
    Option(
        "allow_insecure_tls",
        Kind.BOOLEAN,
        False,
        ("domain", "global"),
        help='lets tls_verify = "no" be obeyed',
    ),
    Option("tls_ca", Kind.FILE, "", _ALL, help="PEM file added to the system's roots"),
    Option("tls_certificate", Kind.FILE, "", _ALL, help="the app's certificate, PEM"),
    Option("tls_key", Kind.FILE, "", _ALL, help="its key, PEM without passphrase"),
    Option("tls_ciphers", Kind.STRING, "DEFAULT", _ALL, help="OpenSSL cipher list, TLS 1.2"),
    Option("tls_protocols", Kind.STRING, "+ALL", _ALL, help="+TLSv1.2, +TLSv1.3 or +ALL; never below 1.2"),
    Option("tlsv13_ciphersuites", Kind.STRING, "", _ALL, help="OpenSSL ciphersuites, TLS 1.3"),
)

_APN = (
    Option("apn_auth_key", Kind.FILE, "", _ALL, help="the .p8 signing key"),
    Option(
        "apn_key_id",
        Kind.STRING,
        "",
        _ALL,
        help="its key ID",
        pattern="[A-Za-z0-9]{10}",
        form="the 10 characters that Apple shows beside the key",
    ),
    Option(
        "apn_team_id",
        Kind.STRING,
        "",
        _ALL,
        help="the team it belongs to",
        pattern="[A-Za-z0-9]{10}",
        form="the 10 characters of Apple's membership page",
    ),
    Option("apn_topic", Kind.STRING, "", _ALL, help="default apns-topic; empty = the certificate's"),
    Option("apn_topics", Kind.LIST, [], _ALL, help="topics a message may ask for; empty = any"),
    Option(
        "apn_push_type", Kind.STRING, "", _ALL, help="default apns-push-type; empty = from topic and payload"
    ),
    Option(
        "apn_priority", Kind.INTEGER, 10, _ALL, help="default apns-priority; 5 for background", low=1, high=10
    ),
    Option(
        "apn_expiry",
        Kind.INTEGER,
        604800,
        _ALL,
        "seconds",
        "from injection to apns-expiration; 0 = Apple stores nothing",
        high=2**32,
    ),
    Option("apn_strict_payload", Kind.BOOLEAN, True, _ALL, help="false: only size and JSON are checked"),
    Option(
        "apn_unknown_outcome",
        Kind.CHOICE,
        "retry",
        _ALL,
        help="when no answer came: send again or give up",
        choices=("retry", "drop"),
    ),
    Option(
        "apn_dead_token_limit",
        Kind.INTEGER,
        20,
        _ALL,
        "percent",
        "above the usual share of dead tokens; more at once suspends; 0 = never",
        high=100,
    ),
    Option(
        "apn_ping_interval",
        Kind.INTEGER,
        60,
        _ALL,
        "seconds",
        "silence on an idle connection before PING",
        low=1,
    ),
)

ROWS = _DELIVERY + _RETRY + _CONNECT + _TLS + _APN
