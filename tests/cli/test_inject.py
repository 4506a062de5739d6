"""inject: what travels, what is printed, how it ends (interfaces.md 1)."""

import base64
import json
import re
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from momentum_push.cli import inject, senders
from momentum_push.message import mcmt
from tests.helpers.inject_servers import http_door, smtp_door

DOMAIN = "com.example.news.apns"
PAYLOAD = '{"aps":{"alert":"Ferry cancelled"}}'
TOKENS = [f"{number:064x}" for number in range(25)]
UUID = "0b1c2d3e-0000-4000-8000-123456789abc"


def run(*arguments, payload=PAYLOAD, stdin=None):
    words = [*map(str, arguments), "--domain", DOMAIN, "--payload", payload]
    return CliRunner().invoke(inject.command, words, input=stdin, catch_exceptions=False)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Pauses are noted, not waited for."""
    pauses = []
    send_all = senders.send_all

    def hasty(sender, tokens, pause, first_pause_s=0.5):
        return send_all(sender, tokens, lambda seconds: pauses.append(seconds), first_pause_s)

    monkeypatch.setattr(inject, "send_all", hasty)
    return pauses


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text("\n".join(TOKENS) + "\n")
    return path


# --- HTTP --------------------------------------------------------------------------------------------


def test_http_sends_batches_in_the_one_payload_for_many_form(token_file):
    with http_door() as door:
        result = run("--http", door.url, "--tokens", token_file, "--batch", 10)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"accepted 25, rejected 0, \d+/s\n", result.stdout)
    assert [len(request["device_tokens"]) for request in door.requests] == [10, 10, 5]
    assert door.tokens == TOKENS
    assert set(door.paths) == {"/v1/notifications"}
    assert door.requests[0]["domain"] == DOMAIN
    assert len(door.peers) == 1  # one connection for all


def test_http_puts_the_payload_in_byte_by_byte():
    payload = '{ "aps" : {"alert":"F\\u00e4hre \\/ Fähre 🛳"}}'
    with http_door() as door:
        assert run("--http", door.url, "--token", TOKENS[1], payload=payload).exit_code == 0
    assert b'"payload":' + payload.encode() + b"}" in door.bodies[0]


def test_http_sends_apples_headers_as_members():
    headers = ["--topic", "com.example.news", "--push-type", "alert", "--priority", "5",
               "--expiration", "1900000000", "--collapse-id", "17", "--apns-id", UUID,
               "--deliver-at", "1800000000"]  # fmt: skip
    with http_door() as door:
        assert run("--http", door.url, "--token", TOKENS[1], *headers).exit_code == 0
    wanted = {"topic": "com.example.news", "push_type": "alert", "priority": 5, "expiration": 1900000000,
              "collapse_id": "17", "apns_id": UUID, "deliver_at": 1800000000}  # fmt: skip
    assert wanted.items() <= door.requests[0].items()


def test_http_leaves_out_what_was_not_asked_for_and_forwards_nonsense():
    with http_door() as door:
        run("--http", door.url, "--token", TOKENS[1], "--priority", "high")
    assert door.requests[0].keys() == {"domain", "device_tokens", "payload", "priority"}
    assert door.requests[0]["priority"] == "high"


def test_rejected_tokens_are_shown_shortened_with_reason_and_end_in_1(token_file):
    with http_door(bad={TOKENS[3]: "BadDeviceToken"}) as door:
        result = run("--http", door.url, "--tokens", token_file)
    assert result.exit_code == 1
    assert result.stdout.startswith("accepted 24, rejected 1, ")
    assert "rejected 00000000…: BadDeviceToken: as told\n" in result.stderr
    assert TOKENS[3] not in result.output


def test_only_the_first_ten_rejected_are_shown(token_file):
    with http_door(bad=dict.fromkeys(TOKENS, "BadDeviceToken")) as door:
        result = run("--http", door.url, "--tokens", token_file, "--batch", 4)
    assert result.exit_code == 1
    assert result.stderr.count("BadDeviceToken") == 10 and "… and 15 more" in result.stderr
    assert result.stdout.startswith("accepted 0, rejected 25, ")


def test_a_refused_request_rejects_its_whole_batch_with_the_daemons_words():
    with http_door() as door:
        result = run("--http", door.url, "--token", TOKENS[1], "--token", TOKENS[2], payload="{")
    assert result.exit_code == 1
    assert "BadPayload: body: not JSON" in result.stderr
    assert result.stdout.startswith("accepted 0, rejected 2, ")


@pytest.mark.parametrize("status", [401, 403, 404, 413, 415, 500])
def test_other_answers_reject_the_batch(status):
    with http_door(first=[(status, b"no\n\x1b[2J", {})]) as door:
        result = run("--http", door.url, "--token", TOKENS[1])
    assert result.exit_code == 1 and f"HTTP {status}" in result.stderr
    assert "\x1b" not in result.stderr


def test_503_is_tried_again_after_the_pause_that_was_asked_for(short_pauses):
    later = (503, {"error": "Busy"}, {"Retry-After": "7"})
    with http_door(first=[later, (429, b"", {}), later]) as door:
        result = run("--http", door.url, "--token", TOKENS[1])
    assert result.exit_code == 0
    assert short_pauses == [7.0, 1.0, 7.0]
    assert door.tokens == [TOKENS[1]]


def test_a_pause_is_bounded_whatever_the_daemon_says(short_pauses):
    with http_door(
        first=[(503, b"", {"Retry-After": "999999"}), (503, b"", {"Retry-After": "soon"})]
    ) as door:
        assert run("--http", door.url, "--token", TOKENS[1]).exit_code == 0
    assert short_pauses == [senders.MAX_PAUSE_S, 1.0]


def test_retries_end_and_stop_the_run(short_pauses, token_file):
    with http_door(first=[(503, b"full", {})] * 6) as door:
        result = run("--http", door.url, "--tokens", token_file, "--batch", 10)
    assert result.exit_code == 1
    assert short_pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert "503: full; stopped, 10 of the last batch unsent" in result.stderr
    assert result.stdout.startswith("accepted 0, rejected 0, ")
    assert not door.requests


def test_a_lost_connection_is_made_again(token_file):
    with http_door() as door:
        door.first[:] = [None]
        result = run("--http", door.url, "--tokens", token_file)
    assert result.exit_code == 0 and door.tokens == TOKENS


@pytest.mark.parametrize("body", [b"", b"{}", b'{"results":[]}', b"<html>", b'{"results":5}'])
def test_an_answer_that_makes_no_sense_counts_as_none(body, short_pauses):
    with http_door(first=[(200, body, {})] * 6) as door:
        result = run("--http", door.url, "--token", TOKENS[1])
    assert result.exit_code == 1 and "no answer: " in result.stderr


def test_several_connections_share_the_work(token_file):
    with http_door() as door:
        result = run("--http", door.url, "--tokens", token_file, "--batch", 1, "--connections", 4)
    assert result.exit_code == 0
    assert sorted(door.tokens) == TOKENS
    assert 1 <= len(door.peers) <= 4


def test_basic_authentication_takes_the_password_from_a_file(tmp_path):
    (tmp_path / "password").write_text("se:cret\n")
    with http_door() as door:
        run(
            "--http",
            door.url,
            "--token",
            TOKENS[1],
            "--user",
            "app",
            "--password-file",
            tmp_path / "password",
        )
    assert door.headers[0]["authorization"] == "Basic " + base64.b64encode(b"app:se:cret").decode()


def test_a_url_with_a_path_is_used_as_it_is():
    with http_door() as door:
        run("--http", door.url + "/gateway/push", "--token", TOKENS[1])
    assert door.paths == ["/gateway/push"]


def test_nobody_listening_is_a_failure_that_says_so():
    with socket.socket() as held:  # bound, but not listening: nobody else gets the port meanwhile
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        for door in (["--http", f"http://127.0.0.1:{port}"], ["--smtp", f"127.0.0.1:{port}"]):
            result = run(*door, "--token", TOKENS[1])
            assert result.exit_code == 1 and "refused" in result.stderr


# --- SMTP --------------------------------------------------------------------------------------------


def part_of(envelope) -> bytes:
    return envelope.content.partition(b"message/vnd.msys.apn\r\n\r\n")[2]


def test_smtp_fans_out_with_a_recipient_per_token(token_file):
    with smtp_door() as door:
        result = run(
            "--smtp", f"127.0.0.1:{door.port}", "--tokens", token_file, "--batch", 10, "--from", "a@b.example"
        )
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"accepted 25, rejected 0, \d+/s\n", result.stdout)
    assert [len(envelope.rcpt_tos) for envelope in door.envelopes] == [10, 10, 5]
    assert door.locals == TOKENS
    assert door.envelopes[0].mail_from == "a@b.example"
    assert b"X-Device-Token" not in door.envelopes[0].content


def test_smtp_mail_is_a_container_with_inner_headers():
    with smtp_door() as door:
        run("--smtp", f"127.0.0.1:{door.port}", "--token", TOKENS[1], "--priority", "5", "--apns-id", UUID)
    mail = door.envelopes[0].content
    assert b'Content-Type: multipart/vnd.msys.mcmt; boundary="' in mail
    head, _, rest = part_of(door.envelopes[0]).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"apns-priority: 5",
        b"apns-id: " + UUID.encode(),
        b"Content-Transfer-Encoding: 7bit",
    ]
    assert rest.startswith(PAYLOAD.encode() + b"\r\n--=_")


@pytest.mark.parametrize(
    "payload",
    ['{"aps":{"alert":"Fähre"}}', '{"aps":{"alert":"' + "x" * 2000 + '"}}', '{"aps":\n{"alert":"x"}}'],
    ids=["utf-8", "long", "lines"],
)
def test_smtp_sends_what_no_line_can_carry_as_base64(payload):
    with smtp_door() as door:
        assert run("--smtp", f"127.0.0.1:{door.port}", "--token", TOKENS[1], payload=payload).exit_code == 0
    head, _, rest = part_of(door.envelopes[0]).partition(b"\r\n\r\n")
    assert head == b"Content-Transfer-Encoding: base64"
    assert base64.b64decode(rest.partition(b"\r\n--")[0]) == payload.encode()
    assert b"\n" not in door.envelopes[0].content.replace(b"\r\n", b"")
    assert max(map(len, door.envelopes[0].content.splitlines())) < 1000


@pytest.mark.parametrize("token", [None, "abcd"])
@pytest.mark.parametrize("payload", [PAYLOAD, '{"aps":{"alert":"Fähre"}}'])
def test_the_daemons_reader_finds_in_the_mail_what_was_put_in(token, payload):
    push = senders.Push(DOMAIN, payload.encode(), {"priority": "5", "id": UUID}, "a@b.example")
    read = mcmt.parse(senders.encode_mail(push, token))
    assert (read.payload, read.token, read.priority, read.apns_id) == (payload.encode(), token, "5", UUID)


@pytest.mark.parametrize("token", ["abcd", "xyz", "ab" * 150, "", "ab\r\nX-Evil: 1", "ab@c"])
def test_smtp_sends_what_is_no_recipients_name_in_a_header(token):
    with smtp_door() as door:
        run("--smtp", f"127.0.0.1:{door.port}", "--token", token, "--token", TOKENS[1])
    assert door.locals == [TOKENS[1], "push"]
    line = part_of(door.envelopes[1]).split(b"\r\n")[0]
    assert line.startswith(b"X-Device-Token: ")
    assert line[16:].decode() == token.replace("\r\n", "??")


def test_smtp_refusals_of_recipients_and_mail_are_counted(token_file):
    def rcpt(address):
        return "550 5.7.1 relaying denied" if address.startswith(TOKENS[2]) else None

    with smtp_door(rcpt=rcpt) as door:
        result = run("--smtp", f"127.0.0.1:{door.port}", "--tokens", token_file)
    assert result.exit_code == 1
    assert result.stdout.startswith("accepted 24, rejected 1, ")
    assert "550 5.7.1 relaying denied" in result.stderr
    assert TOKENS[2] not in door.locals and len(door.locals) == 24


def test_smtp_refusal_of_data_rejects_all_of_its_recipients(token_file):
    with smtp_door(data=lambda envelope: "550 5.6.0 payload: no") as door:
        result = run("--smtp", f"127.0.0.1:{door.port}", "--tokens", token_file)
    assert result.exit_code == 1
    assert result.stdout.startswith("accepted 0, rejected 25, ")


def test_smtp_temporary_answers_are_tried_again_for_whom_they_concern(token_file, short_pauses):
    asked = []

    def rcpt(address):
        asked.append(address)
        is_first = asked.count(address) == 1
        return "450 4.3.2 later" if is_first and address.startswith(TOKENS[5]) else None

    with smtp_door(rcpt=rcpt) as door:
        result = run("--smtp", f"127.0.0.1:{door.port}", "--tokens", token_file)
    assert result.exit_code == 0, result.output
    assert sorted(door.locals) == TOKENS and short_pauses == [0.5]


def test_smtp_temporary_answers_to_data_are_tried_again_but_not_for_ever(short_pauses):
    with smtp_door(data=lambda envelope: "452 4.3.1 spool full") as door:
        result = run("--smtp", f"127.0.0.1:{door.port}", "--token", TOKENS[1], "--token", "abcd")
    assert result.exit_code == 1 and len(short_pauses) == senders.MAX_TRIES - 1
    assert "452 4.3.1 spool full; stopped, 2 of the last batch unsent" in result.stderr


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_smtp_authenticates_before_it_sends(tmp_path):
    (tmp_path / "password").write_text("secret\n")
    login = ["--user", "app", "--password-file", tmp_path / "password"]
    with smtp_door(users={"app": "secret"}) as door:
        assert run("--smtp", f"127.0.0.1:{door.port}", "--token", TOKENS[1], *login).exit_code == 0
        refused = run("--smtp", f"127.0.0.1:{door.port}", "--token", TOKENS[1])
    assert refused.exit_code == 1 and len(door.envelopes) == 1
    assert "secret" not in refused.output


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and localhost: (file, server context)."""
    folder = tmp_path_factory.mktemp("tls")
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(secret + pem)
    (folder / "ca.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return folder / "ca.pem", context


def test_starttls_trusts_the_roots_it_was_given_and_no_others(certificate):
    ca, context = certificate
    with smtp_door(tls_context=context) as door:
        where = ["--smtp", f"localhost:{door.port}", "--token", TOKENS[1], "--starttls"]
        assert run(*where, "--ca", ca).exit_code == 0
        distrusted = run(*where)
    assert distrusted.exit_code == 1 and "certificate" in distrusted.stderr
    assert len(door.envelopes) == 1


# --- Tokens and usage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("aa\nbb\n", ["aa", "bb"]),
        ("aa\r\n\r\n  bb  \r\n", ["aa", "bb"]),
        ("\ufeffaa\nbb", ["aa", "bb"]),
        ("aa,Ann\nbb,Bob\n", ["aa", "bb"]),
        ("name,device_token\nAnn,aa\nBob,bb\n", ["aa", "bb"]),
        ('name,Device_Token\n"Ann, A.",aa\nBob,"bb"\n', ["aa", "bb"]),
        ("device_token\naa\nbb\n", ["aa", "bb"]),
        ("name,device_token\nAnn\nBob,bb\n", ["", "bb"]),  # a hole is the daemon's to refuse
    ],
)
def test_a_token_file_is_lines_or_csv(text, tokens, tmp_path):
    (tmp_path / "t").write_bytes(text.encode())
    with http_door() as door:
        run("--http", door.url, "--tokens", tmp_path / "t")
        run("--http", door.url, "--tokens", "-", stdin=text.encode())
    assert door.tokens == tokens * 2


def test_tokens_of_the_command_line_come_before_the_files(token_file):
    with http_door() as door:
        run("--http", door.url, "--token", "aa", "--tokens", token_file)
    assert door.tokens == ["aa", *TOKENS]


def test_a_token_file_is_streamed(monkeypatch):
    """While the door is being tried, no more is read than the queue and the threads can hold."""
    seen_when_sent = []
    count = 0

    def endless():
        nonlocal count
        for count in range(1, 5001):
            yield f"{count:064x}\n"

    class Door:
        def attempt(self, tokens):
            seen_when_sent.append((len(seen_when_sent) + 1, count))
            return senders.Answer([], [])

        def close(self):
            pass

    run_ = inject.Run(Door, 1)
    run_.feed(inject._batches(inject._read_tokens(endless()), 10))
    assert run_.tally.accepted == 5000
    assert all(read <= 10 * (sent + 5) for sent, read in seen_when_sent)


def test_an_empty_token_file_is_a_failure(tmp_path):
    (tmp_path / "t").touch()
    with http_door() as door:
        result = run("--http", door.url, "--tokens", tmp_path / "t")
    assert result.exit_code == 1 and "holds no token" in result.stderr


def test_the_payload_may_stand_in_a_file(tmp_path):
    (tmp_path / "push.json").write_text(PAYLOAD + "\n")
    with http_door() as door:
        run("--http", door.url, "--token", TOKENS[1], payload=f"@{tmp_path / 'push.json'}")
    assert door.requests[0]["payload"] == json.loads(PAYLOAD)
    assert door.bodies[0].endswith(PAYLOAD.encode() + b"}")


WRONG = [
    (["--token", "aa"], "either --smtp HOST:PORT or --http URL"),
    (["--token", "aa", "--smtp", "h:25", "--http", "http://h"], "either --smtp HOST:PORT or --http URL"),
    (["--http", "http://h"], "no tokens"),
    (["--token", "aa", "--http", "h:8080"], "is not a URL"),
    (["--token", "aa", "--http", "http://h:x"], "is not a URL"),
    (["--token", "aa", "--smtp", "h:port"], "is not HOST:PORT"),
    (["--token", "aa", "--smtp", "h:99999"], "is not HOST:PORT"),
    (["--token", "aa", "--smtp", "http://h:25"], "is not HOST:PORT"),
    (["--token", "aa", "--http", "http://h", "--starttls"], "--starttls is for SMTP"),
    (["--token", "aa", "--http", "http://h", "--user", "u"], "go together"),
    (["--token", "aa", "--http", "http://h", "--topic", "a\nb"], "one line"),
    (["--token", "aa", "--http", "http://h", "--batch", "0"], "--batch"),
    (["--token", "aa", "--http", "http://h", "--connections", "0"], "--connections"),
    (["--tokens", "/no/such/file", "--http", "http://h"], "No such file"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=str)
def test_wrong_usage_ends_in_2_and_says_what(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2 and words in result.stderr


def test_a_payload_file_that_is_missing_is_wrong_usage():
    result = run("--token", "aa", "--http", "http://h", payload="@/no/such/file")
    assert result.exit_code == 2 and "cannot be read" in result.stderr


def test_help_shows_an_example():
    result = CliRunner().invoke(inject.command, ["--help"])
    assert result.exit_code == 0 and "momentum-push inject --http" in result.output


def test_a_fault_of_our_own_in_a_thread_ends_the_run():
    class Broken:
        def attempt(self, tokens):
            raise ZeroDivisionError

        def close(self):
            pass

    with pytest.raises(ZeroDivisionError):
        inject.Run(Broken, 2).feed([["aa"]] * 1000)
