"""The daemon in an operator's hands: signals, systemd, credentials, limits, peers that misbehave."""

import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from momentum_push.simulator import make_provider_certificate
from tests.helpers.clients import curl, mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, until
from tests.helpers.servers import Apns, free_port, running_apns

ALERT = {"aps": {"alert": "x"}}


def push(daemon: DaemonProcess, many: list[str], **changes: object) -> None:
    status, answer = post(daemon, {"domain": DOMAIN, "device_tokens": many, "payload": ALERT, **changes})
    assert (status, answer.get("accepted")) == (200, len(many)), answer


@pytest.fixture
def apns(tmp_path: Path) -> Iterator[Apns]:
    with running_apns(tmp_path) as running:
        yield running


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "momentum_push", *arguments], capture_output=True, text=True, timeout=60
    )


# --- signals and systemd


def test_reload_takes_a_good_file_and_survives_a_broken_one(tmp_path: Path, apns: Apns) -> None:
    suspended = conf_for(tmp_path, apns.port, apns.credential, options="suspend_delivery = true")
    with running_daemon(tmp_path, suspended) as daemon:
        many = tokens(10, "reload")
        push(daemon, many)
        daemon.conf_path.write_text(suspended.replace("retry_interval", "retry_intervall"))
        daemon.signal(signal.SIGHUP)
        problems = daemon.event("reload_failed")["problems"]
        assert 'did you mean "retry_interval"?' in problems[0]
        assert apns.accepted() == []

        daemon.conf_path.write_text(suspended.replace("suspend_delivery = true", ""))
        daemon.signal(signal.SIGHUP)
        daemon.event("reloaded")
        assert set(apns.wait_accepted(10)) == set(many)


def test_logs_that_were_renamed_are_opened_anew_on_sigusr1(tmp_path: Path, apns: Apns) -> None:
    with running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential)) as daemon:
        push(daemon, tokens(1, "before"))
        daemon.wait_records("D", 1)
        (tmp_path / "apnlog.ec").rename(tmp_path / "apnlog.ec.1")
        daemon.signal(signal.SIGUSR1)
        daemon.event("logs_reopened")
        push(daemon, tokens(1, "after"))
        daemon.wait_records("D", 1)
    assert len((tmp_path / "apnlog.ec.1").read_text().splitlines()) == 1


def test_systemd_hears_ready_watchdog_status_and_stopping(tmp_path: Path, apns: Apns) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(30)
        conf = conf_for(tmp_path, apns.port, apns.credential)
        with running_daemon(tmp_path, conf, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "500000"}) as daemon:
            assert "READY=1" in sock.recv(4096).decode().split("\n")
            beats = [sock.recv(4096).decode() for _ in range(3)]
            assert all("WATCHDOG=1" in beat and "STATUS=active 0, delayed 0" in beat for beat in beats)
            daemon.signal(signal.SIGHUP)
            until(lambda: "RELOADING=1" in sock.recv(4096).decode(), "RELOADING=1")
            until(lambda: "READY=1" in sock.recv(4096).decode(), "READY=1 again")
            daemon.signal(signal.SIGTERM)
            until(lambda: "STOPPING=1" in sock.recv(4096).decode(), "STOPPING=1")


def test_a_stopped_loop_feeds_no_watchdog(tmp_path: Path, apns: Apns) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        conf = conf_for(tmp_path, apns.port, apns.credential)
        with running_daemon(tmp_path, conf, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}) as daemon:
            sock.settimeout(10)
            sock.recv(4096)
            daemon.signal(signal.SIGSTOP)
            try:
                sock.settimeout(2)
                with pytest.raises(TimeoutError):
                    while True:
                        sock.recv(4096)
            finally:
                daemon.signal(signal.SIGCONT)


# --- credentials


def test_a_certificate_authenticates_and_gives_its_topic(tmp_path: Path, apns: Apns) -> None:
    certificate, key = make_provider_certificate(tmp_path / "apns", ("com.example.news",), "both", "provider")
    lines = f'tls_ca = "{apns.ca}"  tls_certificate = "{certificate}"  tls_key = "{key}"'
    conf = conf_for(tmp_path, apns.port, lines).replace('apn_topic       = "com.example.news"', "")
    with running_daemon(tmp_path, conf) as daemon:
        push(daemon, tokens(20, "certificate"))
        apns.wait_accepted(20)
        assert {request["topic"] for request in apns.requests()} == {"com.example.news"}
        assert {request["credential"] for request in apns.requests()} == {"com.example.news"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda apns: apns.key.unlink(), ["apn_auth_key", "cannot be read (no such file or directory)"]),
        (lambda apns: apns.key.chmod(0o644), ["apn_auth_key", "can be read by everybody"]),
        (lambda apns: apns.key.write_text("no key\n"), ["apn_auth_key"]),
        (lambda apns: apns.ca.write_text("no certificate\n"), ["tls_ca", "no certificate in PEM form"]),
    ],
)
def test_a_credential_that_cannot_be_used_is_an_error_of_check_and_of_serve(
    tmp_path: Path, apns: Apns, damage: object, words: list[str]
) -> None:
    path = tmp_path / "ecelerity.conf"
    path.write_text(conf_for(tmp_path, apns.port, apns.credential))
    assert command("check", "-c", str(path)).stdout.rstrip().endswith("Configuration valid")
    damage(apns)  # type: ignore[operator]
    for name in ("check", "serve"):
        done = command(name, "-c", str(path))
        text = done.stdout + done.stderr
        assert done.returncode == 1, text
        assert f"{path}:" in text
        assert all(word in text for word in words), text
        assert "PRIVATE" not in text


def test_a_key_that_apple_does_not_believe_suspends_the_binding_and_loses_nothing(tmp_path: Path) -> None:
    faults = (
        "rules:\n  - {name: revoked, match: {times: 4}, do: {status: 403, reason: InvalidProviderToken}}\n"
    )
    with (
        running_apns(tmp_path, faults) as apns,
        running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential)) as daemon,
    ):
        many = tokens(50, "revoked")
        push(daemon, many)
        event = daemon.event("binding_suspended")
        assert (event["reason"], event["domain"]) == ("InvalidProviderToken", DOMAIN)
        assert "apn_auth_key" in event["fix"]
        until(lambda: set(many) <= set(apns.accepted()), "all, once the key is believed again")
        daemon.event("suspension_lifted")
        until(lambda: len(daemon.records("D")) == 50, "all D records")
        (record,) = daemon.records("T")
        assert (record.status, record.reason) == ("255", "InvalidProviderToken")


# --- limits and schedules


def test_a_throttle_lets_its_rate_through(tmp_path: Path, apns: Apns) -> None:
    options = 'outbound_throttle_messages = "20/60"'
    with running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential, options=options)) as daemon:
        push(daemon, tokens(100, "throttle"))
        apns.wait_accepted(20)
        until(lambda: daemon.records("D"), "records")
        assert 20 <= len(apns.accepted()) <= 25
        assert curl(daemon, "/stats/summary")[1]["ActiveQueueSize"] >= 75


def test_temporary_answers_are_retried_and_end_with_the_schedule(tmp_path: Path) -> None:
    faults = "rules:\n  - {name: busy, do: {status: 503, reason: ServiceUnavailable}}\n"
    options = "max_retries = 2  retry_interval = 1  max_retry_interval = 1"
    with (
        running_apns(tmp_path, faults) as apns,
        running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential, options=options)) as daemon,
    ):
        push(daemon, tokens(1, "retry"))
        (final,) = daemon.wait_records("P", 1)
        assert final.reason == "554 5.4.7 [internal] exceeded max retries without delivery"
        assert [record.reason for record in daemon.records("T")] == ["ServiceUnavailable"] * 2
        ids = {request["apns_id"] for request in apns.requests()}
        assert (len(ids), len(apns.requests())) == (1, 3), "the apns-id changed over retries"


def test_what_expired_while_it_waited_is_never_sent(tmp_path: Path, apns: Apns) -> None:
    options = "suspend_delivery = true  apn_expiry = 1"
    conf = conf_for(tmp_path, apns.port, apns.credential, options=options)
    with running_daemon(tmp_path, conf) as daemon:
        push(daemon, tokens(5, "expired"))
        push(daemon, tokens(1, "one attempt"), expiration=0)
        expires = 1 + int(daemon.folder.stat().st_mtime)
        until(lambda: int(subprocess.check_output(["date", "+%s"])) > expires + 2, "their expiry")
        daemon.conf_path.write_text(conf.replace("suspend_delivery = true", ""))
        daemon.signal(signal.SIGHUP)
        finals = daemon.wait_records("P", 5)
        assert {record.reason for record in finals} == {
            "554 5.4.5 [internal] Delivery not attempted (message expired)"
        }
        assert apns.wait_accepted(1) == tokens(1, "one attempt")


def test_bindings_keep_apart_what_they_are_told_to(tmp_path: Path, apns: Apns) -> None:
    extra = 'binding_group "bulk" { binding "bulk1" { suspend_delivery = true } binding "bulk2" { } }'
    with running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential, extra=extra)) as daemon:
        push(daemon, tokens(3, "group"), binding="bulk")
        push(daemon, tokens(2, "suspended"), binding="bulk1")
        records = daemon.wait_records("D", 3)
        assert {(record.group, record.binding) for record in records} == {("bulk", "bulk2")}
        rows = curl(daemon, "/stats/queues/mailq")[1]["QueueSummary"]
        assert [(row["group"], row["binding"], row["aq"]) for row in rows if row["aq"]] == [
            ("bulk", "bulk1", 2)
        ]


# --- doors with locks


def test_starttls_and_a_password_open_the_door_for_strangers(tmp_path: Path, apns: Apns) -> None:
    passwords = tmp_path / "push.users"
    passwords.write_text("app:correct horse\n")
    passwords.chmod(0o600)
    shutil.copy(tmp_path / "apns/server.key", tmp_path / "smtp.key")
    smtp = (
        'smtp_extensions = ( STARTTLS "AUTH PLAIN LOGIN" )\n'
        f'authplainparameters = [ uri = "file://{passwords}" ]\n'
        f'authloginparameters = [ uri = "file://{passwords}" ]\n'
        f'tls_certificate = "{tmp_path}/apns/server.pem"  tls_key = "{tmp_path}/smtp.key"'
    )
    http = f'enable_authentication = true  authplainparameters = [ uri = "file://{passwords}" ]'
    conf = conf_for(tmp_path, apns.port, apns.credential, smtp=smtp, http=http)
    conf = conf.replace('relay_hosts = ( "127.0.0.0/8" )', "")
    with running_daemon(tmp_path, conf) as daemon:
        token = tokens(1, "auth")[0]
        assert send_mail(daemon, mail(token)) == (550, "5.7.1 relaying denied")
        context = ssl.create_default_context(cafile=str(apns.ca))
        with smtplib.SMTP("localhost", daemon.smtp_port, timeout=30) as client:
            client.starttls(context=context)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("app", "wrong")
            client.login("app", "correct horse")
            assert client.sendmail("push@example.net", [f"4711@{DOMAIN}"], mail(token)) == {}
        assert apns.wait_accepted(1) == [token]

        body = b'{"domain":"%s","device_tokens":["%s"],"payload":{"aps":{}}}' % (
            DOMAIN.encode(),
            token.encode(),
        )
        json = ("-H", "Content-Type: application/json")
        assert curl(daemon, "/v1/notifications", *json, data=body)[0] == 401
        assert curl(daemon, "/v1/notifications", *json, "-u", "app:wrong", data=body)[0] == 401
        assert curl(daemon, "/v1/notifications", *json, "-u", "app:correct horse", data=body)[0] == 200
        assert curl(daemon, "/healthz")[0] == 200
        outcomes = [line.rpartition("@")[2] for line in daemon.lines("acctlog.ec") if "@N@" in line]
        assert {"0", "1"} <= set(outcomes)
        assert "correct horse" not in daemon.stderr


# --- peers that are none


def test_a_peer_that_speaks_http_1_1_is_named_as_such(tmp_path: Path, apns: Apns) -> None:
    port = free_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "apns/server.pem", tmp_path / "apns/server.key")
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(30)
        with running_daemon(tmp_path, conf_for(tmp_path, port, apns.credential)) as daemon:
            push(daemon, tokens(1, "http 1.1"))
            sock, _ = server.accept()
            sock.settimeout(10)
            try:
                context.wrap_socket(sock, server_side=True).close()
            except OSError:
                sock.close()
            assert "HTTP/1.1" in daemon.event("connect_failed")["error"]
            (record,) = daemon.wait_records("T", 1)
            assert (record.status, record.remote) == ("255", "")


def test_a_server_that_cannot_prove_its_name_gets_nothing(tmp_path: Path, apns: Apns) -> None:
    credential = apns.credential.replace("tls_ca", "# tls_ca")
    with running_daemon(tmp_path, conf_for(tmp_path, apns.port, credential)) as daemon:
        push(daemon, tokens(1, "unproven"))
        assert "certificate" in daemon.event("connect_failed")["error"].lower()
        assert apns.requests() == []
