"""The whole way, from clients that nobody here wrote to the records: SMTP and HTTP in, APNs out."""

import base64
import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.clients import PAYLOAD, curl, mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, split_fields, until
from tests.helpers.servers import Apns, needs, running_apns, running_nginx

PEER_KINDS = ["simulator", "nginx"]


@pytest.fixture(scope="module", params=PEER_KINDS)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DaemonProcess, Apns]]:
    """One daemon for all tests of this file, before each kind of APNs."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    running = running_apns if request.param == "simulator" else running_nginx
    with (
        running(folder) as apns,
        running_daemon(folder, conf_for(folder, apns.port, apns.credential)) as daemon,
    ):
        yield daemon, apns


World = tuple[DaemonProcess, Apns]


def arrivals(apns: Apns, wanted: list[str]) -> dict[str, dict[str, object]]:
    """Wait until all of `wanted` were accepted; return their requests by token."""
    until(lambda: set(wanted) <= set(apns.accepted()), f"{len(wanted)} tokens at the peer")
    return {request["token"]: request for request in apns.requests() if request["token"] in wanted}


def test_a_mail_by_smtplib_arrives_with_apples_headers_and_leaves_its_records(world: World) -> None:
    daemon, apns = world
    (token,) = tokens(1, "smtplib")
    headers = "apns-push-type: alert\r\napns-priority: 5\r\napns-collapse-id: ferry\r\n"
    code, text = send_mail(daemon, mail(token, headers=headers))
    assert code == 250, text
    status, mid, word = text.split(" ")
    assert (status, word) == ("2.0.0", "accepted")

    request = arrivals(apns, [token])[token]
    assert (request["topic"], request["push_type"], request["priority"]) == ("com.example.news", "alert", "5")
    records = until(lambda: [record for record in daemon.records("D") if record.mid == mid], "its D record")
    (record,) = records
    assert (record.source, record.dest, record.domain) == ("push@example.net", "4711", DOMAIN)
    assert (record.group, record.binding, record.remote) == ("default", "default", "127.0.0.1")
    assert record.apns_id == request["apns_id"]
    assert int(record.size) > len(PAYLOAD.encode())

    (reception,) = [
        line
        for line in map(split_fields, daemon.lines("mainlog.ec"))
        if line[1:2] == [mid] and line[4] == "R"
    ]
    assert reception[5:9] == ["4711", DOMAIN, "push", "example.net"]
    assert (reception[11], reception[12:14]) == ("esmtp", ["default", "default"])


def test_swaks_sends_a_fan_out_one_data_many_recipients(world: World) -> None:
    daemon, apns = world
    many = tokens(50, "swaks")
    swaks = needs("swaks")
    content = mail().decode().replace("\r\n", "\n")
    done = subprocess.run(
        [
            *(swaks, "--server", f"127.0.0.1:{daemon.smtp_port}", "--from", "push@example.net"),
            *("--to", ",".join(f"{token}@{DOMAIN}" for token in many), "--data", "-"),
        ],
        input=content.encode(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout.decode()
    assert "accepted (50 recipients)" in done.stdout.decode()
    arrivals(apns, many)


@pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
def test_parts_in_every_transfer_encoding_arrive_byte_by_byte(world: World, encoding: str) -> None:
    daemon, apns = world
    (token,) = tokens(1, f"encoding {encoding}")
    payload = PAYLOAD
    if encoding == "base64":
        payload = base64.encodebytes(PAYLOAD.encode()).decode().replace("\n", "\r\n").strip()
    elif encoding == "quoted-printable":
        payload = "".join(
            f"={byte:02X}" if byte > 126 or byte == 61 else chr(byte) for byte in PAYLOAD.encode()
        )
    code, text = send_mail(daemon, mail(token, payload, f"Content-Transfer-Encoding: {encoding}\r\n"))
    assert code == 250, text
    request = arrivals(apns, [token])[token]
    if "sha256" in request:
        assert request["size"] == len(PAYLOAD.encode())


def test_curl_posts_a_batch_and_every_notification_has_its_own_result(world: World) -> None:
    daemon, apns = world
    first, second = tokens(2, "curl")
    items = [
        {"device_token": first, "payload": {"aps": {"alert": "a"}}, "context": {"campaign": "ferries"}},
        {"device_token": "odd", "payload": {"aps": {"alert": "b"}}},
        {"device_token": second, "payload": {"aps": {"alert": "c"}}, "priority": 5},
    ]
    status, answer = post(daemon, {"domain": DOMAIN, "notifications": items})
    assert (status, answer["accepted"], answer["rejected"]) == (200, 2, 1)
    assert answer["results"][1]["error"] == "BadDeviceToken"
    found = arrivals(apns, [first, second])
    assert [found[token]["apns_id"] for token in (first, second)] == [
        answer["results"][n]["apns_id"] for n in (0, 2)
    ]
    mids = {answer["results"][0]["id"], answer["results"][2]["id"]}
    until(lambda: mids <= {record.mid for record in daemon.records("D")}, "their D records")


def test_one_payload_for_many_tokens_gzipped(world: World) -> None:
    daemon, apns = world
    many = tokens(2500, "gzip")
    body = gzip.compress(
        json.dumps({"domain": DOMAIN, "device_tokens": many, "payload": {"aps": {"alert": "x"}}}).encode()
    )
    status, answer = curl(
        daemon,
        "/v1/notifications",
        "-H",
        "Content-Type: application/json",
        "-H",
        "Content-Encoding: gzip",
        data=body,
    )
    assert (status, answer["accepted"], len(answer["results"])) == (200, 2500, 2500)
    arrivals(apns, many)


def test_ndjson_is_taken_line_by_line_and_a_broken_line_is_that_lines_error(world: World) -> None:
    daemon, apns = world
    first, second = tokens(2, "ndjson")
    lines = [
        json.dumps({"device_token": first, "payload": {"aps": {"alert": "a"}}}),
        "{broken",
        json.dumps({"device_token": second, "payload": {"aps": {"alert": "b"}}}),
    ]
    status, answer = curl(
        daemon,
        f"/v1/notifications?domain={DOMAIN}",
        "-H",
        "Content-Type: application/x-ndjson",
        data="\n".join(lines).encode(),
    )
    assert (status, answer["accepted"], answer["rejected"]) == (200, 2, 1)
    assert "error" in answer["results"][1]
    arrivals(apns, [first, second])


def test_the_rest_injector_takes_a_template_with_recipients(world: World) -> None:
    daemon, apns = world
    first, second = tokens(2, "rest")
    template = mail("<%= :tok %>", '{"aps":{"alert":"[%= :text %]"}}').decode()
    body = {
        "template": template,
        "recipients": [
            {"to": f"u1@{DOMAIN}", "from": "push@example.net", "keys": {"tok": first, "TEXT": "one"}},
            {
                "to": f"u2@{DOMAIN}",
                "from": "push@example.net",
                "keys": {"Tok": second, "text": "two"},
                "vctx": {"c": "f"},
            },
        ],
    }
    status, answer = curl(daemon, "/v1.0/inject", data=json.dumps(body).encode())
    assert (status, answer["status"], len(answer["results"])) == (200, "success", 2)
    for result in answer["results"]:
        assert (result["status"], result["reason"]) == ("success", f"250 {result['mid']}")
    arrivals(apns, [first, second])
    records = until(
        lambda: [record for record in daemon.records("D") if record.mid == answer["results"][1]["mid"]],
        "its record",
    )
    assert (records[0].source, records[0].dest) == ("push@example.net", "u2")
    assert curl(daemon, "/v1.0/inject") == (200, None)


def test_health_metrics_and_statistics_tell_of_it(world: World) -> None:
    daemon, _ = world
    assert curl(daemon, "/healthz")[0] == 200
    assert curl(daemon, "/readyz")[0] == 200
    status, metrics = curl(daemon, "/metrics")
    assert status == 200
    assert f'momentum_push_deliveries_total{{binding="default",domain="{DOMAIN}"}}' in metrics
    assert curl(daemon, "/stats/summary")[1]["DeliveredMessages"] > 0
    assert curl(daemon, "/stats/queues/mailq")[1]["QueueSummary"][0]["domain"] == DOMAIN
    assert curl(daemon, "/openapi.json")[1]["openapi"].startswith("3.")


def test_every_accepted_message_has_one_record_and_one_request(world: World) -> None:
    """Runs last in this file: the books are even."""
    daemon, apns = world
    until(lambda: curl(daemon, "/stats/summary")[1]["TotalQueueSize"] == 0, "an empty queue")
    delivered = [record.mid for record in daemon.records("D")]
    assert len(delivered) == len(set(delivered)) == len(apns.accepted()) == len(set(apns.accepted()))
