"""momentum_push/message/mcmt.py: finding the push part, and fanning it out."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import Refusal
from momentum_push.message.mcmt import MAX_HEADER_BYTES, MAX_PARTS, Mcmt, drafts_from, is_container, parse
from tests.helpers.smtp import TOKEN, container, mail, push_part

PAYLOAD = b'{"aps":{"alert":"Ferry cancelled","badge":1},"story":981}'
QP_PAYLOAD = b'=7B"aps":{"alert":"a=3Db =C3=A9"}=\r\n}'


def parsed(raw: bytes) -> Mcmt:
    result = parse(raw)
    assert isinstance(result, Mcmt), result
    return result


def refused(raw: bytes) -> Refusal:
    result = parse(raw)
    assert isinstance(result, Refusal), result
    return result


FULL = b"""From: alerts@example.net
To: 4711@com.example.news.apns
Subject: breaking
Date: Mon, 05 Jan 2026 10:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/vnd.msys.mcmt; boundary="b1"

--b1
Content-Type: message/rfc822

From: alerts@example.net
To: reader@example.com
Subject: breaking
Content-Type: text/plain

Fallback text for mail readers.
--b1
Content-Type: message/vnd.msys.apn

X-Device-Token: %s

%s
--b1--
""" % (TOKEN.encode(), PAYLOAD)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_the_full_example_is_read(line_end: bytes) -> None:
    """momentum.md 4.2."""
    raw = FULL.replace(b"\n", line_end)
    assert parsed(raw) == Mcmt(PAYLOAD, token=TOKEN, size=len(raw))


def test_every_header_of_ours_is_read_as_it_was_written() -> None:
    """interfaces.md 3."""
    inner = (
        f"X-Device-Token: {TOKEN}\r\nReturn-Path: <b@example.net>\r\nAPNS-Topic: com.example.news\r\n"
        "apns-push-type: alert\r\napns-priority: high\r\napns-expiration: 1800000000\r\n"
        "apns-collapse-id: a b\r\napns-id: 6F9619FF-8B86-D011-B42D-00C04FC964FF\r\n"
        "X-Deliver-At: 1900000000\r\n\r\n"
    )
    assert parsed(mail(inner.encode() + PAYLOAD)) == Mcmt(
        PAYLOAD,
        token=TOKEN,
        return_path="<b@example.net>",
        topic="com.example.news",
        push_type="alert",
        priority="high",
        expiration="1800000000",
        collapse_id="a b",
        deliver_at="1900000000",
        apns_id="6F9619FF-8B86-D011-B42D-00C04FC964FF",
        size=len(mail(inner.encode() + PAYLOAD)),
    )


X_TOKEN = b"X-Device-Token: " + TOKEN.encode() + b"\r\n"
B64 = base64.encodebytes(PAYLOAD).replace(b"\n", b"\r\n")
CTE_B64 = b"Content-Transfer-Encoding: base64\r\n"
CTE_QP = b"content-transfer-encoding: Quoted-Printable\r\n"

READINGS = [
    ("inner headers", b"", X_TOKEN + b"\r\n" + PAYLOAD, PAYLOAD),
    ("headers among the part's", X_TOKEN, PAYLOAD, PAYLOAD),
    ("an empty inner block", X_TOKEN, b"\r\n" + PAYLOAD, PAYLOAD),
    ("blank lines before inner headers", b"", b"\r\n\r\n" + X_TOKEN + b"\r\n" + PAYLOAD, PAYLOAD),
    ("blank lines around the payload", b"", X_TOKEN + b"\r\n\r\n " + PAYLOAD + b" \r\n\r\n", PAYLOAD),
    ("no blank line before the payload", b"", X_TOKEN + PAYLOAD, PAYLOAD),
    ("folded header", b"", b"X-Device-Token:\r\n " + TOKEN.encode() + b"\r\n\r\n" + PAYLOAD, PAYLOAD),
    ("indented, as the manual prints it", b"", b"  " + X_TOKEN + b"  A: b\r\n\r\n  " + PAYLOAD, PAYLOAD),
    ("inner header wins", b"X-Device-Token: 00\r\n", X_TOKEN + b"\r\n" + PAYLOAD, PAYLOAD),
    ("many lines of JSON", b"", X_TOKEN + b'\r\n{\r\n\r\n "aps": {}\r\n}\r\n', b'{\r\n\r\n "aps": {}\r\n}'),
    ("base64 in the inner block", b"", X_TOKEN + CTE_B64 + b"\r\n" + B64, PAYLOAD),
    ("base64 of the part, plain inner block", CTE_B64, X_TOKEN + b"\r\n" + B64, PAYLOAD),
    ("base64 of the part, no inner block", CTE_B64 + X_TOKEN, B64, PAYLOAD),
    ("base64 over all of the part", CTE_B64, base64.encodebytes(X_TOKEN + b"\r\n" + PAYLOAD), PAYLOAD),
    ("base64 twice", CTE_B64, base64.encodebytes(X_TOKEN + CTE_B64 + b"\r\n" + B64), PAYLOAD),
    ("base64 declared, plain sent", b"", X_TOKEN + CTE_B64 + b"\r\n" + PAYLOAD, PAYLOAD),
    (
        "quoted-printable inner",
        b"",
        X_TOKEN + CTE_QP + b"\r\n" + QP_PAYLOAD,
        '{"aps":{"alert":"a=b é"}}'.encode(),
    ),
    (
        "quoted-printable part",
        CTE_QP,
        b"X-Device-Token: =\r\n" + TOKEN.encode() + b"\r\n\r\n" + QP_PAYLOAD,
        '{"aps":{"alert":"a=b é"}}'.encode(),
    ),
    (
        "quoted-printable in both",
        CTE_QP,
        X_TOKEN + CTE_QP + b"\r\n" + b'{"a":"=3D41"}',
        b'{"a":"=41"}',
    ),
    ("8bit", b"Content-Transfer-Encoding: 8bit\r\n", X_TOKEN + b"\r\n" + "{é}".encode(), "{é}".encode()),
]


@pytest.mark.parametrize(
    ("headers", "body", "payload"), [row[1:] for row in READINGS], ids=[r[0] for r in READINGS]
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_push_part_is_read_leniently(headers: bytes, body: bytes, payload: bytes, line_end: bytes) -> None:
    """momentum.md 4.2 and 4.3, interfaces.md 2 (inner headers)."""
    raw = container(push_part(headers, body)).replace(b"\r\n", line_end)
    found = parsed(raw)
    assert (found.token, found.payload) == (TOKEN, payload.replace(b"\r\n", line_end))


PUSH = push_part(b"", X_TOKEN + b"\r\n" + PAYLOAD)
RFC822 = b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ntext"
NESTED = (
    b"Content-Type: multipart/mixed; boundary=b1-in\r\n\r\n"
    b"--b1-in\r\nContent-Type: message/vnd.msys.apn\r\n\r\n{}\r\n--b1-in--"
)

CONTAINERS = [
    ("without rfc822", container(PUSH)),
    ("rfc822 last", container(PUSH, RFC822)),
    ("rfc2822", container(RFC822.replace(b"rfc822", b"rfc2822"), PUSH)),
    ("other types", container(b"Content-Type: message/vnd.msys.gcm\r\n\r\n{}", b"\r\nplain", PUSH)),
    ("a nested multipart is opaque", container(NESTED, PUSH)),
    ("sloppy neighbour", container(b"no header at all", PUSH)),
    ("no last delimiter", container(PUSH).partition(b"\r\n--b1--")[0]),
    ("no line end after the last delimiter", container(PUSH).rstrip()),
    ("preamble and epilogue", container(PUSH, preamble=b"--b\r\n--b10\r\nold") + b"\r\n--b1\r\nrubbish"),
    ("blanks after delimiters", container(PUSH).replace(b"--b1\r\n", b"--b1 \t\r\n")),
    ("boundary unquoted", container(PUSH, parameter=b"boundary=b1")),
    ("boundary among others", container(PUSH, parameter=b'charset=utf-8;\r\n\tBOUNDARY = "b1"; x=y')),
    ("boundary with a quoted pair", container(PUSH, parameter=b'boundary="b\\1"')),
    ("types in capitals", container(PUSH.replace(b"message/vnd", b"Message/VND")).replace(b"mcmt", b"MCMT")),
    ("mbox line above", b"From x\r\n" + container(PUSH)),
]


@pytest.mark.parametrize("raw", [row[1] for row in CONTAINERS], ids=[row[0] for row in CONTAINERS])
def test_container_is_read_leniently(raw: bytes) -> None:
    """momentum.md 4.1; interfaces.md 2: an rfc822 part is not needed."""
    found = parsed(raw)
    assert (found.token, found.payload) == (TOKEN, PAYLOAD)
    assert is_container(raw)


REFUSED = [
    ("plain mail", b"Subject: x\r\n\r\nhello", "NoPushPart", "mail:"),
    ("nothing", b"", "NoPushPart", "mail:"),
    ("headers only", b"Subject: x", "NoPushPart", "mail:"),
    ("no push part", container(RFC822), "NoPushPart", "container:"),
    ("no parts", container(), "NoPushPart", "container:"),
    ("no boundary", container(PUSH, parameter=b"x=y"), "BadMessage", "boundary"),
    ("empty boundary", container(PUSH, parameter=b'boundary=""'), "BadMessage", "boundary"),
    ("giant boundary", container(PUSH, parameter=b"boundary=" + b"b" * 201), "BadMessage", "boundary"),
    ("boundary never used", container(PUSH, parameter=b"boundary=b2"), "BadMessage", "container:"),
    ("container encoded", CTE_B64 + container(PUSH), "BadMessage", "encoded as a whole"),
    ("two Content-Types", b"Content-Type: text/plain\r\n" + container(PUSH), "BadMessage", "twice"),
    ("two push parts", container(PUSH, PUSH), "BadMessage", "part 2: a second"),
    (
        "two tokens",
        mail(X_TOKEN * 2 + b"\r\n" + PAYLOAD),
        "BadMessage",
        'part 1, inner headers: "x-device-token"',
    ),
    ("no payload", mail(X_TOKEN), "BadMessage", "part 1: no payload"),
    ("empty part", mail(b""), "BadMessage", "part 1: no payload"),
    ("NUL", mail(b"apns-topic: a\0b\r\n\r\n" + PAYLOAD), "BadMessage", "control character"),
    ("lone CR", mail(b"apns-collapse-id: a\rb\r\n\r\n" + PAYLOAD), "BadMessage", "control character"),
    (
        "CR by quoted-printable",
        container(push_part(CTE_QP, b"apns-collapse-id: a=0Db\r\n\r\n" + PAYLOAD)),
        "BadMessage",
        "control character",
    ),
    ("not UTF-8", mail(b"apns-topic: \xff\r\n\r\n" + PAYLOAD), "BadMessage", "not UTF-8"),
    ("broken base64", mail(CTE_B64 + b"\r\neyJ"), "BadMessage", "broken base64"),
    ("base64 with rubbish", mail(CTE_B64 + b"\r\neyJh!!!!"), "BadMessage", "broken base64"),
    (
        "other encoding",
        mail(b"Content-Transfer-Encoding: x-uu\r\n\r\nabc"),
        "BadMessage",
        "'x-uu' is unknown",
    ),
    ("endless mail headers", b"A: " + b"b" * MAX_HEADER_BYTES, "BadMessage", "mail headers: longer"),
    (
        "endless inner headers",
        mail(b"A: " + b"b" * MAX_HEADER_BYTES),
        "BadMessage",
        "part 1, inner headers: longer",
    ),
    ("too many parts", container(*[b"\r\nx"] * (MAX_PARTS + 1), PUSH), "BadMessage", "parts"),
]


@pytest.mark.parametrize(
    ("raw", "error", "place"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_has_two_readings_or_none_is_refused_with_its_place(raw: bytes, error: str, place: str) -> None:
    refusal = refused(raw)
    assert refusal.error == error
    assert place in refusal.detail
    assert refusal.detail.isprintable()


def test_a_broken_container_is_still_seen_as_one() -> None:
    assert is_container(container(PUSH, parameter=b"x=y"))
    assert not is_container(b"Subject: x\r\n\r\nhello")
    assert not is_container(b"Content-Type: a\r\nContent-Type: b\r\n\r\n")


inside = st.binary(max_size=300).filter(lambda data: b"\n--b1" not in data)


@given(inside)
def test_any_8bit_payload_arrives_untouched(data: bytes) -> None:
    payload = b"{" + data + b"}"
    assert parsed(mail(X_TOKEN + b"\r\n" + payload)).payload == payload


@given(st.binary(max_size=300), st.booleans())
def test_any_base64_payload_arrives_untouched(data: bytes, is_inner: bool) -> None:
    payload = b"{" + data + b"}"
    encoded = base64.encodebytes(payload)
    raw = mail(CTE_B64 + b"\r\n" + encoded) if is_inner else container(push_part(CTE_B64, encoded))
    assert parsed(raw).payload == payload


@given(st.binary(max_size=300), st.integers(4, 76))
def test_any_quoted_printable_payload_arrives_untouched(data: bytes, width: int) -> None:
    payload = b"{" + data + b"}"
    digits = [b"=%02X" % byte for byte in payload]
    lines = [b"".join(digits[at : at + width // 3]) for at in range(0, len(digits), width // 3)]
    assert parsed(mail(CTE_QP + b"\r\n" + b"=\r\n".join(lines))).payload == payload


@given(st.binary(max_size=400))
def test_any_rubbish_is_answered_not_raised(data: bytes) -> None:
    for raw in (data, mail(data), container(data), container(push_part(data, data))):
        assert isinstance(parse(raw), Mcmt | Refusal)


def test_every_beginning_of_a_mail_is_answered_not_raised() -> None:
    for length in range(len(FULL)):
        assert isinstance(parse(FULL[:length]), Mcmt | Refusal)


# Fan-out

MAIL = Mcmt(PAYLOAD, topic="com.example.news", size=500)
A, B = "aa" * 32, "BB" * 80


def test_each_recipient_that_is_a_token_is_one_message_of_a_shared_draft() -> None:
    (draft,) = drafts_from(MAIL, [(A, "x.apns"), (B, "X.APNS")], {"campaign": "c"})
    assert (draft.domain, draft.tokens, draft.rcpts) == ("x.apns", [A, B], [A, B])
    assert (draft.topic, draft.priority, draft.size, draft.context) == (
        "com.example.news",
        None,
        500,
        {"campaign": "c"},
    )


def test_recipients_are_grouped_by_domain_in_order_of_the_first() -> None:
    drafts = drafts_from(MAIL, [(A, "x.apns"), (B, "y.apns"), (B, "X.apns")])
    assert [(draft.domain, draft.tokens) for draft in drafts] == [("x.apns", [A, B]), ("y.apns", [B])]


@pytest.mark.parametrize(
    ("header", "context", "local", "token"),
    [
        (A, {"DLV_Dest_ID": B}, B, A),
        (None, {"DLV_Dest_ID": A}, B, A),
        (None, {}, A, A),
        ("no token", {}, A, "no token"),  # judged later, with its own answer
        (None, {"DLV_Dest_ID": ""}, A, A),
    ],
)
def test_token_is_the_headers_then_the_contexts_then_the_recipients(
    header: str | None, context: dict[str, str], local: str, token: str
) -> None:
    """interfaces.md 2, Token."""
    (draft,) = drafts_from(Mcmt(PAYLOAD, token=header), [(local, "x.apns")], context)
    assert (draft.tokens, draft.rcpts) == ([token], [local])


@pytest.mark.parametrize("local", ["4711", A[:-1], A[:-2], "g" * 64, A + "f", "é" * 64, ""])
def test_a_local_part_that_is_no_token_names_no_device(local: str) -> None:
    refusal = drafts_from(MAIL, [(A, "x.apns"), (local, "y.apns")])
    assert isinstance(refusal, Refusal)
    assert refusal.error == "MissingDeviceToken"
    assert "y.apns" in refusal.detail


def test_one_apns_id_cannot_stand_for_two_recipients() -> None:
    """Even where their domains make two drafts of them."""
    refusal = drafts_from(Mcmt(PAYLOAD, apns_id="x"), [(A, "x.apns"), (B, "y.apns")])
    assert isinstance(refusal, Refusal)
    assert refusal.error == "BadMessageId"


def test_return_path_loses_its_brackets() -> None:
    (draft,) = drafts_from(Mcmt(PAYLOAD, token=A, return_path="<b@example.net>"), [("u", "x.apns")])
    assert draft.return_path == "b@example.net"
