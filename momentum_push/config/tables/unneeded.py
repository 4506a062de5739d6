"""Names that Momentum knows and a push daemon does not need: they load with a warning and are ignored.

Exact names, or prefixes where an entry ends in `*`; prefixes are few, so that a misspelt option of ours
stays an error. The bodies of unneeded stanzas are not looked at.
"""

__all__ = ["UNNEEDED_OPTIONS", "UNNEEDED_STANZAS"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


UNNEEDED_STANZAS = _words(
    """
    adaptive alerting antivirus auth_* av_* beik bounce_classifier_override bounce_logger brightmail
    chunk_logger cidrdb clamav cloudmark cluster commtouch_* conn_throttle csapi curfew
    custom_bounce_classifier custom_logger datasource debug_flags delay_dsn delay_dsn_logger dk_sign
    dk_validate dkim dkim_* dns_* ds_* ds_core dsn_original dupe_check ec_radius ec_stats ecauth ecstream
    ecstream_listener engagement_tracker event_hydrant event_loop eventloop exim_logger gcm gcm_logger
    generic_delivery hardbounce health http2clnt http_logger httpclnt inband_* ip_family ipv6_* jlog ldap
    mail_loop malloc_* memcached mm7 mm7_* msgc_client msgc_server msys_* mta_sts mtasts mxip node
    opendkim outbound_audit outbound_smtp_auth persistdb postfix_logger promote_binding rate_limit redis
    replication risky_domains saslauthd scriptlet_ext securecreds seedlist sendmail_logger sieve sieve_*
    siq smpp smpp_* smtp_auth_proxy smtp_cbv smtp_rset smtpapi snmp spf spf_macros spf_v1 static_routes
    statp stpd subaccounts suppress_spool syslog_io thread_pool threadpool tls_macros uribl url_ripper
    fbl inbound_audit jlog_io mobility persist_io
    vctx_copy velocity webhooks xclient xmpp xmpp_* zgrey
    """
)

UNNEEDED_OPTIONS = _words(
    """
    _unsafe_spool adaptive_* additional_smtp_extensions aliases allow_auto_* allow_multiple_domains_from
    arc_* auto_bounce banner_timeout bind_address body_timeout bounce_* bounces_* chk_getpwnam cluster_*
    clustered connection_failure_* cpu_accounting_* crypto_* ctxvar_* data_timeout delay_dsn_*
    deliver_local_mode delivery_pool disable_nagle_outbound disk_queue_drain_rate dk_* dkim_* dns_* dnssec
    dot_file drop_body_after_trans_fail dsn_* ecstream_* ehlo_hostname ehlo_timeout enable_duplicate_*
    enable_fbl_* enable_fqdn esmtp_only eventloop_* fbl_* file_path fips_mode fully_resolve_before_smtp
    gateway gcm_* generate_delay_dsn growbuf_size high_action host_lookup hostname http_basic_auth
    http_host http_method http_uri http_version inbound_audit_* inbound_buffer_size initial_hash_buckets
    inline_transfail_processing inmem_* ip_family ipv6_only keep_message_dicts_in_memory ketama_*
    large_message_threshold legacy_message_threshold license* lmtp_* lookup_* loop_* lua_* mailerdaemon
    mailfrom_timeout malloc_* masterdb_file match_cache_life max_dns_* max_recipients_per_mail maxfd mdn_*
    message_id_* mime_* mm7_* modules_* monitor_* nodeaddr nodename nsswitch_* openssl_*
    outbound_buffer_size outbound_smtp_auth_* outbound_smtp_port pcre_cache_size pcre_cache_ttl
    permastore_interval phase_timeout prefer_* qp_* rbl_* rcptto_timeout remote_smtp_port reserve_maximum
    rfc2821_* rfc2822_* rset_timeout sched_* seedlist_* sieve_* smpp_* smtp_port smtpapi_* snmp*
    soft_bounce_* source_address* spf_* spool_in_* srs_* ssl_* stack_size starttls_timeout static_routes
    statistics_* swap_* sysctl_* syslog_* tcp_fast_open tos trace_smtp_mode tracking_*
    transfail_drain_rate unconditionally_* unlink_on_spool_in_failure unsafe_* use_dns use_mmap_* verp*
    xclient* xfer_*
    """
)
