"""The HTTP door as its clients see it: notifications, access, figures, description."""

import asyncio
import base64
import gzip
import http.client
import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momentum_push.config import loads
from momentum_push.errors import SpoolError, SpoolFull
from momentum_push.injection.http_access import Exchange
from momentum_push.injection.http_protocol import BoundedProtocol
from momentum_push.injection.openapi import DOCUMENT
from momentum_push.injection.sockets import open_sockets
from momentum_push.message import Draft, Refusal
from tests.helpers.http import DOMAIN, TOKEN, FakeListen, HttpDoor, Reply, conforms, curl, http_door, raw
from tests.helpers.intake import Busy
from tests.helpers.uncollected import uncollected

PATH = "/v1/notifications"
NDJSON = "Content-Type: application/x-ndjson"


def note(token: str = TOKEN, **more: Any) -> dict[str, Any]:
    return {"device_token": token, "payload": {"aps": {"alert": "x"}}} | more


def batch(*notes: dict[str, Any]) -> dict[str, Any]:
    return {"domain": DOMAIN, "notifications": list(notes)}


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def talk(body: Any, *headers: str, path: str = PATH, **options: Any) -> tuple[Reply, HttpDoor]:
    async def run() -> tuple[Reply, HttpDoor]:
        async with http_door(FakeListen(**options)) as door:
            return await door.post(path, body, *headers), door

    return asyncio.run(run())


# --- notifications ---------------------------------------------------------------------------------


def test_results_come_in_request_order_after_the_commit() -> None:
    reply, door = talk(batch(note(), note("zz"), note(TOKEN.upper(), priority=5, apns_id="a"), note(prio=1)))
    assert reply.status == 200
    assert (reply.json["accepted"], reply.json["rejected"]) == (2, 2)
    first, second, third, fourth = reply.json["results"]
    messages = door.intake.accepted
    assert first == {"id": messages[0].mid, "apns_id": messages[0].apns_id}
    assert third["id"] == messages[1].mid
    assert second["error"] == "BadDeviceToken"
    assert fourth["error"] == "UnknownKey"
    assert door.meters.rejections == {("http", "BadDeviceToken"): 1, ("http", "UnknownKey"): 1}
    assert {rejection.error for rejection in door.records.rejections} == {"BadDeviceToken", "UnknownKey"}


def test_payload_and_options_reach_the_intake_as_they_came() -> None:
    options = {
        "binding": "b", "topic": "t", "push_type": "alert", "priority": "high", "expiration": 1800000000,
        "collapse_id": "c", "apns_id": "i", "deliver_at": 1900000000, "context": {"campaign": "ferries"},
    }  # fmt: skip
    payload = '{"aps" :{"alert":"\\u00fc \u00fc"}, "n": 1.50}'
    fields = json.dumps(options)[1:]
    body = f'{{"domain":"Com.Example.NEWS.apns","device_token":"{TOKEN}","payload":{payload},{fields}'
    reply, door = talk(body)
    assert reply.status == 200
    (origin, drafts) = door.intake.calls[0]
    expected = Draft(domain=DOMAIN, payload=payload.encode(), tokens=[TOKEN], **options)  # type: ignore[arg-type]
    assert drafts == [expected]
    assert (origin.protocol, origin.context["can_relay"]) == ("http", "true")
    assert origin.client.startswith("127.0.0.1:")
    assert origin.conn_id
    assert origin.batch_id


def test_one_payload_for_many_is_one_draft() -> None:
    tokens = [f"{number:064x}" for number in range(3000)]
    body = {"domain": DOMAIN, "device_tokens": [*tokens, "zz", 5], "payload": {"aps": {}}, "priority": 5}
    reply, door = talk(body)
    assert (reply.status, reply.json["accepted"], reply.json["rejected"]) == (200, 3000, 2)
    assert reply.headers["transfer-encoding"] == "chunked"
    assert [message.token for message in door.intake.accepted] == tokens
    assert reply.json["results"][2999]["id"] == door.intake.accepted[2999].mid
    assert len(door.intake.calls[0][1]) == 1


def test_disable_chunked_gives_long_answers_a_length() -> None:
    body = {"domain": DOMAIN, "device_tokens": [TOKEN] * 1200, "payload": {"aps": {}}}
    reply, _ = talk(body, disable_chunked=True)
    assert len(reply.json["results"]) == 1200
    assert int(reply.headers["content-length"]) == len(reply.body)


REFUSED: dict[str, tuple[Any, str, str]] = {
    "all tokens bad": (batch(note("zz")), "BadDeviceToken", "$.notifications[0].device_token: "),
    "no domain": ({"notifications": [note()]}, "MissingDomain", "$.notifications[0].domain: "),
    "a domain that spoils logs": (batch(note(domain="a@b\n")), "BadDomain", "$.notifications[0].domain: "),
    "type": (batch(note(priority=[])), "BadPriority", "$.notifications[0].priority: "),
    "an item that is no object": (
        {"domain": DOMAIN, "notifications": [7]},
        "BadRequest",
        "$.notifications[0]: ",
    ),
    "fan-out": (
        {"domain": DOMAIN, "device_tokens": ["zz"], "payload": {}},
        "BadDeviceToken",
        "$.device_tokens[0]: ",
    ),
    "single": ({"domain": DOMAIN, "device_token": "zz", "payload": {}}, "BadDeviceToken", "$.device_token: "),
    "fan-out without domain": ({"device_tokens": [TOKEN], "payload": {}}, "MissingDomain", "$.domain: "),
    "null token": (
        {"domain": DOMAIN, "device_token": None, "payload": {}},
        "MissingDeviceToken",
        "$.device_token",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_when_nothing_is_accepted_400_has_place_and_results(name: str) -> None:
    body, error, detail = REFUSED[name]
    reply, door = talk(body)
    assert (reply.status, reply.json["error"]) == (400, error)
    assert reply.json["detail"].startswith(detail)
    assert [result["error"] for result in reply.json["results"]] == [error]
    assert (reply.json["accepted"], reply.json["rejected"]) == (0, 1)
    assert door.intake.accepted == []


BROKEN: dict[str, tuple[Any, str, str]] = {
    "nothing": (b"", "BadJson", "truncated"),
    "not JSON": (b"device_token=1", "BadJson", "malformed"),
    "cut off": (b'{"notifications":[', "BadJson", "truncated"),
    "an array": (b"[]", "BadRequest", "$: "),
    "empty list": (batch(), "BadRequest", "$.notifications: "),
    "empty fan-out": (
        {"domain": DOMAIN, "device_tokens": [], "payload": {}},
        "BadRequest",
        "$.device_tokens: ",
    ),
    "no list": ({"domain": DOMAIN, "notifications": {}}, "BadRequest", "$.notifications: expected an array"),
    "duplicate": (b'{"domain":"a","domain":"b","notifications":[]}', "DuplicateKey", '"domain"'),
    "NaN": (b'{"notifications":[NaN]}', "BadJson", "malformed"),
    "deep": (b'{"notifications":' + b"[" * 200_000, "BadJson", "deeply"),
    "bad UTF-8": (b'{"domain":"\xff","notifications":[]}', "BadJson", "UTF-8"),
    "one id for many": (
        {"domain": DOMAIN, "device_tokens": [TOKEN] * 2, "payload": {}, "apns_id": "x"},
        "BadMessageId",
        "$.apns_id",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_body_of_another_form_is_refused_as_a_whole(name: str) -> None:
    body, error, detail = BROKEN[name]
    reply, door = talk(body)
    assert (reply.status, reply.json["error"]) == (400, error)
    assert detail in reply.json["detail"]
    assert "results" not in reply.json
    assert door.intake.calls == []
    assert door.meters.rejections["http", error] == 1


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [(SpoolFull("x"), "10"), (SpoolError("/var/spool/x"), "10"), (Busy(3), "3"), (Busy(0.2), "1")],
)
@pytest.mark.parametrize("kind", ["Content-Type: application/json", NDJSON])
def test_what_is_our_fault_is_503_with_retry_after(failure: Exception, seconds: str, kind: str) -> None:
    async def run() -> None:
        async with http_door() as door:
            door.intake.failure = failure
            body = lines(note(domain=DOMAIN)) if kind is NDJSON else batch(note())
            reply = await door.post(PATH, body, kind)
            assert (reply.status, reply.headers["retry-after"]) == (503, seconds)
            assert reply.json["error"] == "ServiceUnavailable"
            assert "/var" not in reply.json["detail"]

    asyncio.run(run())


def test_a_handler_that_fails_answers_500_and_the_daemon_goes_on() -> None:
    async def run() -> None:
        async with http_door() as door:
            door.intake.failure = ZeroDivisionError("secret")
            reply = await door.post(PATH, batch(note()))
            assert (reply.status, reply.json["error"]) == (500, "InternalServerError")
            assert b"secret" not in reply.body
            assert (await door.get("/healthz")).status == 200

    asyncio.run(run())


# --- NDJSON ----------------------------------------------------------------------------------------


def test_each_line_is_a_notification_and_a_broken_one_is_its_own_error() -> None:
    body = lines(note(), note(domain="other")) + b"\n{broken\n" + lines(note(topic=1)) + lines(note())[:-1]
    reply, door = talk(body, NDJSON, path=f"{PATH}?domain={DOMAIN}")
    assert (reply.status, reply.json["accepted"], reply.json["rejected"]) == (200, 3, 2)
    details = [result.get("detail", "ok") for result in reply.json["results"]]
    assert [detail.split(":")[0] for detail in details] == ["ok", "ok", "line 4", "line 5", "ok"]
    assert [draft.domain for draft in door.intake.calls[0][1]] == [DOMAIN, "other", DOMAIN]


def test_ndjson_is_committed_list_by_list_and_has_no_limit() -> None:
    count = 12_345
    text = lines(note()) * count
    reply, door = talk(gzip.compress(text), NDJSON, "Content-Encoding: gzip", path=f"{PATH}?domain={DOMAIN}")
    assert len(text) > door.listen.options["max_request_size"]
    assert (reply.status, reply.json["accepted"], len(reply.json["results"])) == (200, count, count)
    assert max(sum(len(draft.tokens) for draft in drafts) for _, drafts in door.intake.calls) == 1000
    assert reply.json["results"][-1]["id"] == door.intake.accepted[-1].mid


def test_what_came_before_a_break_stays_accepted() -> None:
    text = gzip.compress(lines(note()) * 2500)
    for body, error in ((text[:-8], "BadEncoding"), (text + b"rubbish", "BadEncoding")):
        reply, door = talk(body, NDJSON, "Content-Encoding: gzip", path=f"{PATH}?domain={DOMAIN}")
        assert (reply.status, reply.json["error"]) == (400, error)
        assert reply.json["accepted"] == len(door.intake.accepted) == len(reply.json["results"]) == 2000


def test_a_full_disk_in_the_middle_tells_what_was_committed() -> None:
    async def run() -> None:
        async with http_door() as door:
            refuse = door.intake.refuse

            def fill(draft: Draft, token: str) -> Refusal | None:
                if len(door.intake.accepted) >= 1000:
                    raise SpoolFull("spool: no room")
                return refuse(draft, token)

            door.intake.refuse = fill
            reply = await door.post(f"{PATH}?domain={DOMAIN}", lines(note()) * 1500, NDJSON)
            assert (reply.status, reply.json["accepted"]) == (503, 1000)
            assert len(reply.json["results"]) == 1000
            assert reply.headers["retry-after"] == "10"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "error", "detail"),
    [
        (b"", "BadRequest", "no lines"),
        (b"\n \n", "BadRequest", "no lines"),
        (b"\n{}\n", "MissingDeviceToken", 'line 2: $: "device_token" is missing'),
        (b'{"device_token":"\xff","payload":{}}\n', "BadJson", "line 1: $: not valid UTF-8"),
        (b'{"device_token":"zz","payload":{}}', "BadDeviceToken", "line 1: $.device_token: device token"),
        (b'{"device_token":"a","payload":{}}, {}', "BadJson", "line 1: $: JSON is malformed"),
        (b"x" * 70_000, "PayloadTooLarge", "line 1: longer than"),
    ],
)  # fmt: skip
def test_ndjson_without_a_good_line_is_400(body: bytes, error: str, detail: str) -> None:
    reply, _ = talk(body, NDJSON, path=f"{PATH}?domain={DOMAIN}")
    assert (reply.status, reply.json["error"]) == (400, error)
    assert detail in reply.json["detail"]


def test_curl_streams_lines_in_chunks() -> None:
    async def run() -> None:
        async with http_door() as door:
            reply = await curl(
                "-X", "POST", "-H", NDJSON, "-H", "Transfer-Encoding: chunked", "-T", "-",
                f"{door.url}{PATH}?domain={DOMAIN}", stdin=lines(note()) * 3000,
            )  # fmt: skip
            assert (reply.status, reply.json["accepted"]) == (200, 3000)

    asyncio.run(run())


def test_httpx_speaks_with_us() -> None:
    async def run() -> None:
        async with http_door() as door, httpx.AsyncClient(base_url=door.url) as client:
            for _ in range(3):
                reply = await client.post(PATH, json=batch(note()))
                assert (reply.status_code, reply.json()["accepted"]) == (200, 1)
            many = {"domain": DOMAIN, "device_tokens": [TOKEN] * 5000, "payload": {"aps": {}}}
            assert len((await client.post(PATH, json=many)).json()["results"]) == 5000

    asyncio.run(run())


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(DOMAIN)
    | st.just(TOKEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        "domain",
        "notifications",
        "device_tokens",
        "device_token",
        "payload",
        "topic",
        "context",
        "priority",
        "x",
    ]
)
things = st.dictionaries(keys, values | st.lists(st.dictionaries(keys, values), max_size=3))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(things, st.booleans(), st.binary(max_size=4), st.integers(0, 99)), min_size=5, max_size=5
    )
)
def test_no_body_is_answered_with_500(bodies: list[tuple[dict[str, Any], bool, bytes, int]]) -> None:
    async def run() -> None:
        async with http_door() as door:
            for value, is_ndjson, noise, at in bodies:
                text = json.dumps(value).encode()
                body = text[:at] + noise + text[at:]
                for path in (PATH, "/v1.0/inject"):
                    reply = await door.post(path, body, *([NDJSON] * is_ndjson))
                    assert reply.status in (200, 400, 415)
                    assert reply.json

    asyncio.run(run())


# --- access ----------------------------------------------------------------------------------------


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def guarded(tmp_path: Path) -> dict[str, Any]:
    users = tmp_path / "users"
    users.write_text("push:se:cret\n")
    users.chmod(0o600)
    parameters = {"uri": f"file://{users}", "realm": 'a"b', "log_authentication": "true"}
    return {"enable_authentication": True, "authplainparameters": parameters}


def test_basic_authentication(guarded: dict[str, Any]) -> None:
    reply, door = talk(batch(note()), basic("push", "se:cret"), **guarded)
    assert reply.status == 200
    (origin, _) = door.intake.calls[0]
    assert origin.user == "push"
    assert origin.context["auth_status"] == "pass"
    assert door.records.logins[0].is_accepted


@pytest.mark.parametrize(
    "header",
    [
        "X: y",
        basic("push", "wrong"),
        basic("nobody", "se:cret"),
        basic("", ""),
        "Authorization: Basic ????",
        "Authorization: Basic /w==",
        "Authorization: Bearer x",
        "Authorization:",
    ],
)
def test_whoever_is_not_known_gets_401(header: str, guarded: dict[str, Any]) -> None:
    reply, door = talk(batch(note()), header, **guarded)
    assert (reply.status, reply.json["error"]) == (401, "Unauthorized")
    assert reply.headers["www-authenticate"] == 'Basic realm="ab", charset="UTF-8"'
    assert door.intake.calls == []


def test_a_password_file_that_is_gone_is_503(guarded: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "users").unlink()
    reply, _ = talk(batch(note()), basic("push", "se:cret"), **guarded)
    assert (reply.status, "users" in reply.json["detail"]) == (503, False)


ACCESS = [
    ({"always_deny": True}, 403, 403),
    ({"always_deny": True, "always_allow": True}, 403, 403),
    ({"always_allow": True, "enable_authentication": True}, 200, 200),
    ({"enable_authentication": True}, 401, 200),
    ({"peers": ()}, 403, 403),
    ({"peers": ("127.0.0.1",)}, 200, 200),
    ({"peers": (), "enable_authentication": True}, 403, 403),
]


@pytest.mark.parametrize(("options", "injection", "health"), ACCESS)
def test_address_then_authentication_then_handler(
    options: dict[str, Any], injection: int, health: int
) -> None:
    async def run() -> None:
        async with http_door(FakeListen(**options)) as door:
            assert (await door.post(PATH, batch(note()))).status == injection
            assert (await door.get("/metrics")).status == injection
            assert (await door.get("/healthz")).status == health
            assert (await door.get("/readyz")).status == health

    asyncio.run(run())


def test_the_access_line_has_momentums_form() -> None:
    _, door = talk(batch(note()), path=f'{PATH}?x="', log_requests_to_paniclog=True)
    (line,) = door.records.lines
    epoch_and_client, request, status, size, milliseconds = (
        line.split(" ", 1)[0],
        line.split('"')[1],
        *line.rsplit(" ", 3)[1:],
    )
    assert len(epoch_and_client.split(":")) == 3
    assert request == "POST /v1/notifications HTTP/1.1"
    assert (status, int(size) > 50) == ("200", True)
    assert len(milliseconds.partition(".")[2]) == 3


TLS = {"tls_key": "", "tls_protocols": "+ALL", "tls_ciphers": "", "tls_verify_mode": ""}


def test_tls_with_a_client_certificate_counts_as_login(tmp_path: Path) -> None:
    authority, server, client = make_certificates(tmp_path)
    options = TLS | {
        "use_ssl": True,
        "tls_certificate": str(server),
        "tls_client_ca": str(authority),
        "enable_authentication": True,
        "tls_verified_peer_is_authorized": True,
    }

    async def run() -> None:
        async with http_door(FakeListen(**options)) as door:
            context = ssl.create_default_context(cafile=str(authority))
            for status in (401, 200):
                async with httpx.AsyncClient(verify=context) as caller:
                    reply = await caller.post(f"https://localhost:{door.port}{PATH}", json=batch(note()))
                assert reply.status_code == status
                context.load_cert_chain(client)

    asyncio.run(run())


def test_a_client_that_has_gone_leaves_nothing(tmp_path: Path) -> None:
    """TLS has a quarter of a megabyte for each; the collector counts objects, and comes when it comes."""
    _, server, _ = make_certificates(tmp_path)
    listen = FakeListen(use_ssl=True, **dict(TLS, tls_certificate=str(server), tls_client_ca=""))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def call(port: int) -> None:
        client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        for _ in range(3):
            client.request("POST", PATH, json.dumps(batch(note())), {"Content-Type": "application/json"})
            reply = client.getresponse()
            assert (reply.status, reply.read()[:1]) == (200, b"{")
        client.close()

    async def story() -> None:
        async with http_door(listen) as door, asyncio.timeout(10):
            await asyncio.to_thread(call, door.port)
            while left():
                await asyncio.sleep(0.005)

    with uncollected(BoundedProtocol, Exchange, ssl.SSLObject) as left:
        uvloop.run(story())


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority, and a server's and a client's certificate with their keys."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(name: str, issuer: x509.Name | None, signer: Any) -> tuple[Path, Any, x509.Name]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .sign(signer or key, hashes.SHA256())
        )
        path = folder / f"{name}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
        path.chmod(0o600)
        return path, key, subject

    authority, key, name = make("authority", None, None)
    return authority, make("localhost", name, key)[0], make("client", name, key)[0]


def test_a_real_configuration_is_obeyed_on_tcp_and_on_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "push.sock"
    text = f"""
    http_listener {{
      max_request_size = 300
      context = [ tenant = "a" ]
      listen "127.0.0.1:0" {{ peer "127.0.0.0/8" {{ max_request_size = 200 }} }}
      listen "{path}" {{ }}
    }}"""
    listens = loads(text).listeners("http_listener")[0].listens

    async def run() -> None:
        async with http_door() as door:
            await door.listener.start([(listen, open_sockets(listen)) for listen in listens])
            port = door.listener.ports[-1]
            for size, status in ((200, 200), (201, 413)):
                body = json.dumps(batch(note())).encode().ljust(size)
                head = (
                    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
                )
                assert (await raw(port, head.encode() + body)).status == status
            reply = await curl("--unix-socket", str(path), "-d", json.dumps(batch(note())), f"http://x{PATH}")
            assert reply.status == 200
            assert [origin.context["tenant"] for origin, _ in door.intake.calls] == ["a", "a"]
            assert door.intake.calls[1][0].client == "unix"
            assert door.meters.inbound_sessions["http"] == 0

    asyncio.run(run())
    assert not path.exists()


def test_long_answers_to_http_1_0_have_a_length() -> None:
    async def run() -> None:
        async with http_door() as door:
            body = json.dumps({"domain": DOMAIN, "device_tokens": [TOKEN] * 600, "payload": {}})
            head = f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
            reply = await raw(door.port, (head + body).encode())
            assert len(reply.json["results"]) == 600

    asyncio.run(run())


def test_refused_requests_have_an_access_line_too() -> None:
    _, door = talk(batch(note()), log_requests_to_paniclog=True, always_deny=True)
    assert " 403 " in door.records.lines[0]


def test_reload_changes_options_of_open_connections() -> None:
    async def run() -> None:
        async with http_door() as door:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(request)
            assert b"200 OK" in await reader.readuntil(b"}")
            await door.listener.reload([(FakeListen(always_deny=True), [])])
            writer.write(request)
            assert b"403 Forbidden" in await reader.readuntil(b"}")
            assert (await door.get("/healthz")).status == 403
            await door.listener.reload([])
            with pytest.raises(OSError):
                await raw(door.port, b"")
            writer.close()

    asyncio.run(run())


# --- figures ---------------------------------------------------------------------------------------


def test_views_are_served_through_callables() -> None:
    async def run() -> None:
        async with http_door() as door:
            assert (await door.get("/metrics")).body == b"momentum_push_receptions_total 1\n"
            assert (
                (await door.get("/metrics")).headers["content-type"].startswith("text/plain; version=0.0.4")
            )
            assert (await door.get("/stats/summary")).json == {"ReceivedMessages": 7}
            assert (await door.get("/stats/summary", method="DELETE")).status == 200
            assert door.state["resets"] == 1
            assert (await door.get("/stats/queues/mailq?domain=a&limit=5")).json == {"QueueSummary": []}
            assert door.state["mailq"] == ("a", None, 5)
            for wrong in ("x", "-1", "%ff", "99999999", "\u0663".encode().hex()):
                reply = await door.get(f"/stats/queues/mailq?limit={wrong}")
                assert reply.status == (400 if not wrong.isdecimal() or len(wrong) > 6 else 200)
            door.state["is_ready"] = (False, "the spool cannot be written")
            reply = await door.get("/readyz")
            assert (reply.status, reply.json["detail"]) == (503, "the spool cannot be written")
            assert (await door.get("/healthz")).status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "BadPath"),
        ("GET", "/%ff%00", 404, "BadPath"),
        ("GET", "/healthz/", 404, "BadPath"),
        ("GET", PATH, 405, "MethodNotAllowed"),
        ("DELETE", "/metrics", 405, "MethodNotAllowed"),
        ("OPTIONS", PATH, 405, "MethodNotAllowed"),
        ("PURGE", PATH, 405, "MethodNotAllowed"),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, error: str) -> None:
    async def run() -> None:
        async with http_door() as door:
            reply = await door.get(path, method=method)
            assert (reply.status, reply.json["error"]) == (status, error)
            assert reply.headers.get("allow", "") == {PATH: "DELETE, POST", "/metrics": "GET, HEAD"}.get(
                path, ""
            )

    asyncio.run(run())


def examples() -> list[tuple[str, Any, Any]]:
    """Return (where, example, schema) of every body in the document."""
    found = []
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for content in body.get("content", {}).values():
                    shown = [content["example"]] if "example" in content else []
                    shown += [one["value"] for one in content.get("examples", {}).values()]
                    found += [(f"{method} {path} {name}", one, content["schema"]) for one in shown]
    return found


def test_examples_of_the_document_are_as_its_schemas_have_it() -> None:
    assert len(examples()) > 30
    for where, example, schema in examples():
        assert conforms(example, schema, DOCUMENT), where


def test_the_document_and_the_routes_agree() -> None:
    async def run() -> None:
        async with http_door() as door:
            routes = door.listener._config.app._router.routes  # type: ignore[union-attr]
            served = {
                route.path.replace(":path", ""): {method.lower() for method in route.methods} - {"head"}
                for route in routes
            }
            assert served == {path: set(methods) for path, methods in DOCUMENT["paths"].items()}
            assert (await door.get("/openapi.json")).json == DOCUMENT

    asyncio.run(run())


def test_real_answers_are_as_the_document_has_them() -> None:
    async def run() -> None:
        async with http_door() as door:
            for body in (batch(note(), note("zz")), batch(note("zz")), batch(), {"x": 1}):
                reply = await door.post(PATH, body)
                responses = DOCUMENT["paths"][PATH]["post"]["responses"]
                schema = responses[str(reply.status)]["content"]["application/json"]["schema"]
                assert conforms(reply.json, schema, DOCUMENT)

    asyncio.run(run())
