"""Options on the way in: listeners, their sockets, peers and pathways (momentum.md 2.2, 3)."""

from momentum_push.config.values import Kind, Option

__all__ = ["ROWS"]

_SOCKET = ("esmtp_listener", "http_listener", "control_listener", "listen")
_LISTEN = (*_SOCKET, "peer")
_ANY = ("esmtp_listener", "http_listener", "listen", "peer", "pathway", "pathway_group")
_AUTH = (*_ANY, "control_listener")
_SITE = (*_ANY, "global")
_TLS = ("esmtp_listener", "http_listener", "listen", "peer", "pathway", "pathway_group")
_HTTP = ("http_listener", "listen", "peer", "pathway", "pathway_group")
_SMTP = ("esmtp_listener", "listen", "peer", "pathway", "pathway_group")

_AUTH_KEYS = ("uri", "realm", "log_authentication", "stored_cleartext")

_SOCKETS = (
    Option("enable", Kind.BOOLEAN, True, _SOCKET, help="switches a listener or one of its addresses off"),
    Option("accept_queue_backlog", Kind.INTEGER, 0, _SOCKET, help="Momentum's thread pools; no effect"),
    Option("concurrency", Kind.INTEGER, 0, _SOCKET, help="Momentum's accepting threads; no effect"),
    Option("events_per_iter", Kind.INTEGER, 0, _SOCKET, help="no effect"),
    Option("pool_name", Kind.STRING, "", _SOCKET, help="no effect"),
    Option("event_loop", Kind.STRING, "", _SOCKET, help="no effect"),
    Option("listen_backlog", Kind.INTEGER, 500, _SOCKET, help="listen(2) backlog", low=1),
    Option("file_mode", Kind.MODE, 0o660, _SOCKET, help="mode of a Unix socket"),
    Option(
        "tcp_recv_buffer_size",
        Kind.INTEGER,
        4096,
        ("esmtp_listener", "control_listener", "listen"),
        "bytes",
        "0 = the system's choice",
    ),
    Option(
        "tcp_send_buffer_size",
        Kind.INTEGER,
        4096,
        ("esmtp_listener", "control_listener", "listen"),
        "bytes",
        "0 = the system's choice",
    ),
    Option(
        "tcp_recv_buffer_size",
        Kind.INTEGER,
        32768,
        ("http_listener", "listen"),
        "bytes",
        "0 = the system's choice",
    ),
    Option(
        "tcp_send_buffer_size",
        Kind.INTEGER,
        32768,
        ("http_listener", "listen"),
        "bytes",
        "0 = the system's choice",
    ),
    Option("disable_nagle_algorithm", Kind.BOOLEAN, False, _SOCKET, help="TCP_NODELAY"),
    Option("idle_time", Kind.INTEGER, 0, _AUTH, "seconds", "inactivity before disconnect; 0 = never"),
    Option("timeout", Kind.INTEGER, 60, ("control_listener", "listen"), "seconds", "idle time of a console"),
    Option("proxy_protocol", Kind.BOOLEAN, False, _LISTEN, help="connections begin with a PROXY header"),
    Option("proxy_protocol_timeout", Kind.INTEGER, 60, _LISTEN, "seconds", "wait for that header", low=1),
)

_ACCESS = (
    Option("always_allow", Kind.BOOLEAN, False, _AUTH, help="counts as authenticated"),
    Option("always_deny", Kind.BOOLEAN, False, _AUTH, help="counts as refused; beats always_allow"),
    Option("enable_authentication", Kind.BOOLEAN, False, _AUTH, help="demand authentication"),
    Option("enable_authorization", Kind.BOOLEAN, False, _AUTH, help="check roles of console users"),
    Option("authorizationparameters", Kind.DICT, {}, _AUTH, help="where groups are: uri = groups:///path"),
    Option("authloginparameters", Kind.DICT, {}, _AUTH, help="AUTH LOGIN", choices=_AUTH_KEYS),
    Option("authplainparameters", Kind.DICT, {}, _AUTH, help="AUTH PLAIN; HTTP Basic", choices=_AUTH_KEYS),
    Option("authcrammd5parameters", Kind.DICT, {}, _AUTH, help="AUTH CRAM-MD5", choices=_AUTH_KEYS),
    Option(
        "authdigestmd5parameters",
        Kind.DICT,
        {},
        _AUTH,
        help="AUTH DIGEST-MD5; HTTP Digest",
        choices=_AUTH_KEYS,
    ),
    Option("open_relay", Kind.BOOLEAN, False, _ANY, help="accept any recipient from anyone"),
    Option("relay_hosts", Kind.LIST, [], _SITE, help="networks that may relay, no authentication needed"),
    Option("relay_domains", Kind.LIST, [], _SITE, help="recipient domains accepted from anyone; *.x too"),
    Option("relay_for_sending_domains", Kind.LIST, [], _SITE, help="domains in MAIL FROM that may relay"),
    Option("prohibited_hosts", Kind.LIST, [], _SITE, help="networks that are turned away"),
    Option("pathway", Kind.STRING, "", _LISTEN, help="attach a named bundle of inbound options"),
)

_LIMITS = (
    Option(
        "listener_sessions", Kind.INTEGER, 0, _ANY, help="concurrent sessions on this scope; 0 = no limit"
    ),
    Option("service_sessions", Kind.INTEGER, 0, _SITE, help="concurrent sessions over all SMTP listeners"),
    Option("max_message_size", Kind.INTEGER, 0, _SITE, "bytes", "0 = none set: 10 MiB"),
    Option("max_receptions_per_connection", Kind.INTEGER, 0, _SITE, help="then 421; 0 = no limit"),
    Option("max_recipients_per_message", Kind.INTEGER, 0, _SITE, help="then 452; 0 = no limit"),
    Option("max_recipients_per_connection", Kind.INTEGER, 0, _SITE, help="0 = no limit"),
    Option(
        "max_recipients_per_batch",
        Kind.INTEGER,
        0,
        _SITE,
        help="another name for one message's; 0 = no limit",
    ),
    Option("inbound_throttle_messages", Kind.RATE, None, _SITE, help="messages accepted per time"),
    Option("inbound_throttle_connections", Kind.RATE, None, _SITE, help="connections accepted per time"),
)

_SMTP_ROWS = (
    Option("banner_hostname", Kind.STRING, "", _SITE, help="name in the greeting; empty = the host's"),
    Option(
        "static_banner",
        Kind.STRING,
        "",
        _ANY,
        help="replaces the greeting",
        pattern="220[ -].*",
        form='a text that begins with "220 "',
    ),
    Option("received_hostname", Kind.STRING, "", _SITE, help="name in Received lines; empty = the host's"),
    Option("require_ehlo", Kind.BOOLEAN, False, _SITE, help="501 without HELO or EHLO"),
    Option("allow_null_envelope_sender", Kind.BOOLEAN, True, _SITE, help="MAIL FROM:<> is welcome"),
    Option("allow_ip_literal", Kind.BOOLEAN, True, _SITE, help="addresses such as a@[192.0.2.1]"),
    Option(
        "allow_trailing_whitespace_in_commands", Kind.BOOLEAN, False, _SITE, help="blanks at a command's end"
    ),
    Option(
        "domain_for_unqualified_sender_address",
        Kind.STRING,
        "",
        _SITE,
        help="appended to senders without one",
    ),
    Option(
        "domain_for_unqualified_recipient_addresses",
        Kind.STRING,
        "",
        _SITE,
        help="appended to such recipients",
    ),
    Option(
        "smtp_extensions",
        Kind.LIST,
        [],
        _SITE,
        help='ENHANCEDSTATUSCODES STARTTLS "AUTH LOGIN" "AUTH PLAIN" …',
    ),
    Option(
        "starttls_injection_policy",
        Kind.CHOICE,
        "reject",
        _SITE,
        help="plaintext after STARTTLS",
        choices=("reject",),
    ),
    Option(
        "mcmt_reception",
        Kind.CHOICE,
        "passthru",
        _SMTP,
        help="containers with push parts",
        choices=("allow", "reject", "passthru"),
    ),
    Option(
        "idempotent_message_id",
        Kind.BOOLEAN,
        False,
        _SMTP,
        help="a mail that comes again within a day gets the same 250, nothing is queued",
    ),
    Option("context", Kind.DICT, {}, _ANY, help="context variables of each connection"),
    Option(
        "reconfig_message", Kind.STRING, "4.3.2 Reconfiguration in progress", _SITE, help="text after 421"
    ),
)

_HTTP_ROWS = (
    Option(
        "tls_verified_peer_is_authorized",
        Kind.BOOLEAN,
        False,
        _HTTP,
        help="a client certificate authenticates",
    ),
    Option("max_request_size", Kind.INTEGER, 67108864, _HTTP, "bytes", "after decompression; 0 = no limit"),
    Option("log_requests_to_paniclog", Kind.BOOLEAN, False, _HTTP, help="one access line per request"),
    Option("disable_chunked", Kind.BOOLEAN, False, _HTTP, help="no chunked answers"),
)

_TLS_ROWS = (
    Option("use_ssl", Kind.BOOLEAN, False, _TLS, help="TLS from the first byte"),
    Option("tls_certificate", Kind.FILE, "", _TLS, help="the server's certificate chain, PEM"),
    Option("tls_key", Kind.FILE, "", _TLS, help="its key, PEM without passphrase"),
    Option(
        "tls_client_ca", Kind.FILE, "", _TLS, help="PEM file that client certificates are checked against"
    ),
    Option("tls_ciphers", Kind.STRING, "DEFAULT", _TLS, help="OpenSSL cipher list, TLS 1.2"),
    Option("tls_protocols", Kind.STRING, "+ALL", _TLS, help="+TLSv1.2, +TLSv1.3 or +ALL; never below 1.2"),
    Option("tlsv13_ciphersuites", Kind.STRING, "", _TLS, help="OpenSSL ciphersuites, TLS 1.3"),
    Option(
        "tls_verify_mode",
        Kind.CHOICE,
        "",
        _TLS,
        help="client certificates; unset = optional",
        choices=("none", "require"),
    ),
    Option("tls_verified_peer_can_relay", Kind.BOOLEAN, False, _TLS, help="a client certificate may relay"),
    Option("tls_allow_renegotiation", Kind.BOOLEAN, True, _TLS, help="no effect: modern TLS has none"),
)

ROWS = _SOCKETS + _ACCESS + _LIMITS + _SMTP_ROWS + _HTTP_ROWS + _TLS_ROWS
