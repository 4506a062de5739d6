"""CONNECT and every answer to it, by table and in any pieces; no socket."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.options import Proxy
from momentum_push.delivery.apns.tunnel import MAX_HEAD, Progress, Tunnel

APPLE = "api.push.apple.com"
PROXY = Proxy("proxy.example", 3128)
LOGIN = Proxy("proxy.example", 3128, "push", "s3cr3t")
BASIC = base64.b64encode(b"push:s3cr3t")
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


def tunnel(proxy: Proxy = PROXY, host: str = APPLE) -> Tunnel:
    return Tunnel(host, 443, proxy)


def fed(*pieces: bytes, proxy: Proxy = PROXY) -> tuple[Progress, str]:
    """How it stands, and what it says, after these pieces; an empty one is the end."""
    found = tunnel(proxy)
    for piece in pieces:
        found.receive(piece)
    return found.progress, str(found.refusal or "")


# --- what is said


@pytest.mark.parametrize(
    ("host", "there"), [(APPLE, b"api.push.apple.com:443"), ("2001:db8::7", b"[2001:db8::7]:443")]
)
def test_the_request_names_the_host_as_the_route_does(host: str, there: bytes) -> None:
    assert tunnel(host=host).request == b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (there, there)


@pytest.mark.parametrize(
    ("user", "password", "login"),
    [("push", "s3cr3t", b"push:s3cr3t"), ("push", "", b"push:"), ("p", "ü:@/", "p:ü:@/".encode())],
)
def test_a_user_is_sent_as_basic(user: str, password: str, login: bytes) -> None:
    """RFC 7617; a colon in the password is part of it."""
    lines = tunnel(Proxy("proxy.example", 3128, user, password)).request.split(b"\r\n")
    assert lines[2] == b"Proxy-Authorization: Basic " + base64.b64encode(login)
    assert lines[3:] == [b"", b""]


# --- what is answered

ACCEPTED = [
    OK,
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 \r\n\r\n",
    b"HTTP/1.1 299 Whatever it is\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n",
    b"HTTP/1.1 200 OK\r\nVia: x\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Busy\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * (MAX_HEAD - 24) + b"\r\n\r\n",
]

REFUSED = [
    (OK + b"\x16", "sent something before TLS began"),
    (OK + OK, "sent something before TLS began"),
    (b"HTTP/1.1 407 Auth\r\n\r\n", 'user and a password (407 Auth); write proxy = "http://user:password@'),
    (
        b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM\r\n\r\n",
        "wants Negotiate, NTLM authentication (407 Auth); only Basic",
    ),
    (
        b'HTTP/1.1 407 Auth\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n',
        "user and a password",
    ),
    (b"HTTP/1.0 401 Unauthorized\r\n\r\n", "user and a password (401 Unauthorized); write proxy"),
    (b"HTTP/1.0 403 Filtered\r\n\r\n", "connection to api.push.apple.com:443 (403 Filtered); let the proxy"),
    (b"HTTP/1.1 502 Bad\r\nContent-Length: 9\r\n\r\nno route!", "cannot connect to api.push.apple.com:443"),
    (b"HTTP/1.1 503 Later\r\n\r\n", "cannot serve a connection to api.push.apple.com:443 now"),
    (b"HTTP/1.1 504 Late\r\n\r\n", "got no answer from api.push.apple.com:443"),
    (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "login portals"),
    (b"HTTP/1.1 101 Switching\r\n\r\n", "upgrade"),
    (b"HTTP/1.1 405 No\r\n\r\n", "does not allow CONNECT"),
    (
        b"HTTP/1.1 599 \x1b[31mLicence\x07 expired\r\n\r\n",
        "refuses api.push.apple.com:443 (599 [31mLicence ex",
    ),
    (b"HTTP/1.1 600 What\r\n\r\n", "(600 What)"),
    (b"HTTP/1.1 2000 OK\r\n\r\n", "no HTTP/1 status line"),
    (b"HTTP/1.1 OK\r\n", "no HTTP/1 status line"),
    (b"HTTP/1.x 200 OK\r\n\r\n", "no HTTP/1 status line"),
    (b"HTTP/2.0 200 OK\r\n\r\n", "does not speak HTTP"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS"),
    (b"\x05\xff", "speaks SOCKS"),
    (b"\r\n" + OK, "does not speak HTTP"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * (MAX_HEAD - 23) + b"\r\n\r\n", "more than 16384 bytes"),
    (b"HTTP/1.1 200 " + b"y" * (1 << 20), "more than 16384 bytes"),
    (b"HTTP/1.1 100 Go on\r\n\r\n" * 2000, "more than 16384 bytes"),
]

ENDED = [
    (b"", "without an answer"),
    (b"HTTP/1.1 20", "in the middle"),
    (b"HTTP/1.1 200 OK\r\nVia: x\r\n", "in the middle"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", "without an answer"),
    (b"HTTP/1.1 403 Forbidden\r\nServer: x", "does not allow a connection"),
]


@pytest.mark.parametrize("answer", ACCEPTED)
def test_any_2xx_read_to_its_blank_line_is_a_tunnel(answer: bytes) -> None:
    assert fed(answer) == (Progress.DONE, "")
    assert fed(*(answer[at : at + 1] for at in range(len(answer)))) == (Progress.DONE, "")
    assert fed(answer[:-1])[0] is Progress.MORE
    assert fed(answer, b"")[0] is Progress.DONE


@pytest.mark.parametrize(("answer", "words"), REFUSED)
def test_everything_else_is_refused_in_words(answer: bytes, words: str) -> None:
    progress, text = fed(answer)
    assert progress is Progress.REFUSED
    assert words in text
    assert "; " in text
    assert text.isprintable()


@pytest.mark.parametrize(("answer", "words"), ENDED)
def test_an_answer_that_ends_too_soon_is_refused(answer: bytes, words: str) -> None:
    progress, text = fed(*([answer] if answer else []), b"")
    assert progress is Progress.REFUSED
    assert words in text


@given(
    answer=st.sampled_from([*ACCEPTED, *(answer for answer, _ in REFUSED), *(answer for answer, _ in ENDED)]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    ends=st.booleans(),
)
def test_how_bytes_are_cut_makes_no_difference(answer: bytes, cuts: list[int], ends: bool) -> None:
    """matrix-org/sygnal#181: an answer in two reads."""
    places = sorted({0, *(min(cut, len(answer)) for cut in cuts), len(answer)})
    pieces = [answer[low:high] for low, high in itertools.pairwise(places)]
    tail = [b""] if ends else []
    assert fed(*pieces, *tail) == fed(*([answer] if answer else []), *tail)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    found = tunnel(LOGIN)
    for piece in [b"HTTP/1.1 200 OK\r\n", *pieces, b""]:
        assert found.receive(piece) is found.progress
    assert (found.refusal is not None) == (found.progress is Progress.REFUSED)


def test_it_never_keeps_more_than_a_header_and_a_read() -> None:
    found = tunnel()
    found.receive(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        found.receive(b"X: y\r\n" * 1000)
    assert found.progress is Progress.REFUSED
    assert len(found._buffer) < MAX_HEAD + 6001


@pytest.mark.parametrize("secret", [b"s3cr3t", BASIC])
@pytest.mark.parametrize("status", [b"407", b"403", b"599"])
def test_a_proxy_that_says_our_password_back_is_not_quoted(secret: bytes, status: bytes) -> None:
    _, text = fed(b"HTTP/1.1 %s no %s here\r\n\r\n" % (status, secret), proxy=LOGIN)
    assert "s3cr3t" not in text and BASIC.decode() not in text
    assert status.decode() in text


def test_a_refused_login_says_so() -> None:
    _, text = fed(b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n", proxy=LOGIN)
    assert text == "it does not accept our user and password (407 Auth); correct them in proxy"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "did not answer CONNECT"),
        (b"HTTP/1.", "never ended its answer"),
        (b"HTTP/1.1 407 Auth\r\nX: y\r\n", "answered 407, but"),
    ],
)
def test_it_knows_what_it_waits_for(said: bytes, words: str) -> None:
    found = tunnel()
    if said:
        found.receive(said)
    assert words in found.waiting
    assert "s3cr3t" not in repr(LOGIN) + str(LOGIN)
