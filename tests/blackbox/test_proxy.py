"""The daemon behind tinyproxy, which nobody here wrote: through it, refused by it, and after its death."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.helpers.clients import post, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, until
from tests.helpers.proxies import running_tinyproxy
from tests.helpers.servers import free_port, running_apns, running_nginx

LOGIN = "BasicAuth push s3cr3t"


def push(daemon: DaemonProcess, many: list[str]) -> None:
    body = {"domain": DOMAIN, "device_tokens": many, "payload": {"aps": {"alert": "x"}}}
    status, answer = post(daemon, body)
    assert (status, answer.get("accepted")) == (200, len(many)), answer


def through(port: int, login: str = "") -> str:
    return f'proxy = "http://{login}127.0.0.1:{port}"'


def test_notifications_arrive_through_a_proxy_that_wants_a_password(tmp_path: Path) -> None:
    """The option alone decides: what the environment says of proxies is not looked at."""
    elsewhere = f"http://127.0.0.1:{free_port()}"
    environment = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), elsewhere)
    with running_apns(tmp_path) as apns, running_tinyproxy(tmp_path, LOGIN) as proxy:
        options = through(proxy.port, "push:s3cr3t@")
        conf = conf_for(tmp_path, apns.port, apns.credential, options=options)
        with running_daemon(tmp_path, conf, environment) as daemon:
            many = tokens(500, "through")
            push(daemon, many)
            assert set(apns.wait_accepted(500)) == set(many)
            delivered = daemon.wait_records("D", 500)
            assert {record.remote for record in delivered} == {"127.0.0.1"}
        assert f"CONNECT localhost:{apns.port} HTTP/1.1" in proxy.log()
        assert "s3cr3t" not in daemon.stderr


def test_nginx_is_reached_through_a_proxy(tmp_path: Path) -> None:
    with running_nginx(tmp_path) as apns, running_tinyproxy(tmp_path) as proxy:
        conf = conf_for(tmp_path, apns.port, apns.credential, options=through(proxy.port))
        with running_daemon(tmp_path, conf) as daemon:
            push(daemon, tokens(200, "nginx"))
            daemon.wait_records("D", 200)
        assert "CONNECT localhost" in proxy.log()


def test_a_proxy_that_dies_is_an_outage_that_ends_when_it_is_back(tmp_path: Path) -> None:
    with running_apns(tmp_path) as apns, running_tinyproxy(tmp_path) as proxy:
        conf = conf_for(tmp_path, apns.port, apns.credential, options=through(proxy.port))
        with running_daemon(tmp_path, conf) as daemon:
            push(daemon, tokens(10, "before"))
            daemon.wait_records("D", 10)

            proxy.stop()
            push(daemon, tokens(10, "during"))
            [record] = daemon.wait_records("T", 1)
            assert f"proxy 127.0.0.1:{proxy.port}: connection refused" in record.reason
            assert "see whether the proxy runs" in daemon.event("connect_failed")["error"]

            proxy.start()
            daemon.wait_records("D", 20)
            daemon.event("outage_over")
            assert len(daemon.records("T")) == 1
    assert sorted(apns.accepted()) == sorted([*tokens(10, "before"), *tokens(10, "during")])


def test_a_proxy_that_refuses_us_is_named_until_a_reload_mends_it(tmp_path: Path) -> None:
    with running_apns(tmp_path) as apns, running_tinyproxy(tmp_path, LOGIN) as proxy:
        wrong = conf_for(tmp_path, apns.port, apns.credential, options=through(proxy.port, "push:wr0ng@"))
        with running_daemon(tmp_path, wrong) as daemon:
            push(daemon, tokens(10, "refused"))
            [record] = daemon.wait_records("T", 1)
            assert "does not accept our user and password (40" in record.reason

            daemon.conf_path.write_text(wrong.replace("wr0ng", "s3cr3t"))
            daemon.signal(signal.SIGHUP)
            assert len(apns.wait_accepted(10)) == 10
        assert "wr0ng" not in daemon.stderr and "s3cr3t" not in daemon.stderr


def test_a_proxy_that_forbids_the_port_is_named_and_a_reload_without_it_goes_directly(
    tmp_path: Path,
) -> None:
    with running_apns(tmp_path) as apns, running_tinyproxy(tmp_path, "ConnectPort 443") as proxy:
        conf = conf_for(tmp_path, apns.port, apns.credential, options=through(proxy.port))
        with running_daemon(tmp_path, conf) as daemon:
            push(daemon, tokens(10, "forbidden"))
            [record] = daemon.wait_records("T", 1)
            assert f"does not allow a connection to localhost:{apns.port} (403" in record.reason

            daemon.conf_path.write_text(conf.replace(through(proxy.port), 'proxy = "none"'))
            daemon.signal(signal.SIGHUP)
            assert len(apns.wait_accepted(10)) == 10
            until(lambda: len(daemon.records("D")) == 10, "10 D records")
