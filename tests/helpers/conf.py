"""Configurations from text, and what is wrong with them, as the operator reads it."""

from collections.abc import Mapping

from momentum_push.config import Config, loads
from momentum_push.errors import ConfigError

__all__ = ["EXAMPLE_13", "EXAMPLE_16", "EXAMPLE_21", "EXAMPLE_71", "config", "errors", "warnings"]

EXAMPLE_13 = """\
# site-wide
Message_Expiration = 86400
relay_hosts = ( "127.0.0.1/32" "10.4.0.0/16" )
include "/opt/msys/ecelerity/etc/conf/default/apps.d"

esmtp_listener {
  listen ":25" {
    mcmt_reception = "reject"
    peer "10.4.0.0/16" { mcmt_reception = "allow" }
    authloginparameters = [
      uri = "digest:///opt/msys/ecelerity/etc/push.users"
      log_authentication = "true"
    ]
  }
}

binding_group "bulk" {
  binding "bulk1" {
    domain "com.example.news.apns" { max_outbound_connections = 4 }
  }
}
"""

EXAMPLE_16 = """\
domain "news.apns" {
  idle_timeout = 30 }
domain "/[.]apns$/" { idle_timeout = 10
  max_outbound_connections = 2 }
"""

EXAMPLE_21 = """\
retry_interval = 1200
domain "news.apns" { retry_interval = 60 }
binding "fast"  { retry_interval = 10  domain "vip.apns" { retry_interval = 1 } }
binding "plain" { domain "news.apns" { idle_timeout = 30 } }
"""

EXAMPLE_71 = """\
apn { }
apn_logger "apn1" { logfile = "/var/log/ecelerity/apnlog.ec"  heartbeat = 60 }

domain "com.example.news.apns" {
  delivery_method           = "apn"
  routes                    = ( "apn://gateway.push.apple.com?port=2195" )
  tls                       = "required"
  tls_verify                = "no"
  tls_certificate           = "/etc/ecelerity/news-cert.pem"
  tls_key                   = "/etc/ecelerity/news-key.pem"
  tls_ciphers               = "DEFAULT"
  idle_timeout              = 10
  delivery_response_timeout = 1000
  max_outbound_connections  = 20
}
"""


def config(text: str, files: Mapping[str, str] | None = None) -> Config:
    """The configuration that `text` is, under the name t.conf."""
    return loads(text, "t.conf", files)


def errors(text: str, files: Mapping[str, str] | None = None) -> list[str]:
    """All problems of a configuration that cannot be used; empty when it can."""
    try:
        config(text, files)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def warnings(text: str, files: Mapping[str, str] | None = None) -> list[str]:
    """The warnings of a configuration that can be used."""
    return [str(problem) for problem in config(text, files).warnings]
