"""A second opinion on the wire: h2's server side reads all that we write, and answers in every way it can.

hypothesis chooses what both sides do, the settings, and how the bytes are cut. h2 raises at anything
that HTTP/2 forbids a client; what it understood must be what was meant, and what we make of its
answers what it said.
"""

from __future__ import annotations

from h2.exceptions import FlowControlError
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.delivery.apns.wire import Wire, WireOptions
from momentum_push.message import Message, Outcome, Phase
from tests.helpers.lists import message, part, token_of
from tests.helpers.peer import Peer, join

PARTS = [
    part(push_type=kind, priority=priority, collapse_id=own, expiration=expiration)
    for kind, priority, own, expiration in (
        ("alert", 10, "", 0),
        ("background", 5, "", 1_800_000_000),
        ("voip", 10, "c" * 64, 1),
        ("alert", 1, "ferry 7", 2**40),
    )
]
SIZES = [0, 1, 100, 300, 20, 40, 4096, 16_384, 16_385, 33_000, 7]
NUMBER = st.integers(0, 1000)
STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 12)),
    st.tuples(st.just("answer"), NUMBER),
    st.tuples(st.just("all"), NUMBER),
    st.tuples(st.just("refuse"), NUMBER),
    st.tuples(st.just("break"), NUMBER),
    st.tuples(st.just("table"), st.sampled_from([0, 50, 200, 4096, 65536])),
    st.tuples(st.just("window"), st.sampled_from([0, 99, 4096, 65535, 2**31 - 1])),
    st.tuples(st.just("frame"), st.sampled_from([16_384, 16_385, 30_000, 2**24 - 1])),
    st.tuples(st.just("streams"), st.integers(0, 8)),
    st.tuples(st.just("list"), st.just(0)),
    st.tuples(st.just("credit"), st.integers(1, 100_000)),
    st.tuples(st.just("ping"), st.just(0)),
)
CODES = {
    "table": SettingCodes.HEADER_TABLE_SIZE,
    "window": SettingCodes.INITIAL_WINDOW_SIZE,
    "frame": SettingCodes.MAX_FRAME_SIZE,
    "streams": SettingCodes.MAX_CONCURRENT_STREAMS,
}


class Story:
    """Both ends, what was sent, and what was answered."""

    def __init__(self, cut: int, opens_window: bool) -> None:
        self.peer = Peer(max_streams=5, opens_window=opens_window)
        self.wire = Wire(WireOptions("api.push.apple.com", is_probing=False))
        self.cut = cut
        self.limit = 5
        self.sent: list[tuple[Message, str, bytes]] = []
        self.said: dict[int, tuple[Phase, int, str]] = {}  # by stream
        self.outcomes: list[Outcome] = []
        self.wire.initiate()
        self.join()

    def join(self) -> None:
        self.outcomes += join(self.wire, self.peer, step=self.cut)
        assert not self.wire.error

    def step(self, what: str, number: int) -> None:
        if what == "send":
            self.send(number)
        elif what in CODES:
            self.limit = number if what == "streams" else self.limit
            self.peer.h2.update_settings({CODES[what]: number})
        elif what == "credit":
            self.peer.h2.increment_flow_control_window(number)
        elif what == "ping":
            self.peer.h2.ping(b"12345678")
            self.wire.ping(0.0)
        elif what == "all":
            for stream_id in sorted(self.peer.open):
                self.answer("answer", stream_id, number)
                self.send(1)
        elif self.peer.open:
            waiting = sorted(self.peer.open)
            self.answer(what, waiting[number % len(waiting)], number)
        self.join()

    def send(self, count: int) -> None:
        first = len(self.sent)
        found = [self.message(number) for number in range(first, first + count)]
        bearer = b"bearer %d" % (first // 7)
        taken = self.wire.send([(message, topic) for message, topic in found], bearer, 0.0)
        back = {id(outcome.message) for outcome in self.wire.give_back()}  # too large for the window
        assert taken == 0 or self.wire.in_flight <= self.limit
        self.sent += [(made, topic, bearer) for made, topic in found[:taken] if id(made) not in back]

    def message(self, number: int) -> tuple[Message, str]:
        made = message(
            number + 1,
            token=token_of(number) * (1 + number % 3),
            payload=b"x" * SIZES[number * 5 % len(SIZES)],
            part=PARTS[number // 2 % 4],
        )
        return made, ("", "com.example.news", "com.example." + "x" * 100)[number // 3 % 3]

    def answer(self, what: str, stream_id: int, number: int) -> None:
        if what == "refuse":
            self.said[stream_id] = (Phase.NOT_PROCESSED, 0, "RST_STREAM REFUSED_STREAM")
            self.peer.reset(stream_id, 7)
        elif what == "break":
            self.said[stream_id] = (Phase.UNKNOWN, 0, "RST_STREAM INTERNAL_ERROR")
            self.peer.reset(stream_id, 2)
        else:
            status, reason = [(200, ""), (400, "BadTopic"), (503, ""), (200, "")][number % 4]
            self.said[stream_id] = (Phase.ANSWERED, status, reason)
            self.reply(stream_id, status, b'{"reason":"%b"}' % reason.encode() if reason else b"", number)

    def reply(self, stream_id: int, status: int, body: bytes, number: int) -> None:
        h2 = self.peer.h2
        fields: list[tuple[bytes, bytes]] = [(b":status", b"%d" % status), (b"apns-id", b"X" * 36)]
        if number & 4:
            h2.send_headers(stream_id, [(b":status", b"103")])
        if number & 8:
            fields.append((b"x-long", b"~" * 17_000))  # CONTINUATION
        is_one_frame = not body and not number & 48
        h2.send_headers(stream_id, fields, end_stream=is_one_frame)
        if body or number & 16:
            pad = number % 256 if number & 64 else None
            h2.send_data(stream_id, body, end_stream=not number & 32, pad_length=pad)
        if number & 32:
            h2.send_headers(stream_id, [(b"x-trailer", b"1")], end_stream=True)
        self.peer.open.pop(stream_id)
        if number & 128:
            self.peer.raw(b"\0\0\4\3\0" + stream_id.to_bytes(4) + bytes(4))  # NO_ERROR, late

    def check(self) -> None:
        """All that h2 understood is what was meant; all that it said is what we believe."""
        streams = {id(made): 1 + 2 * place for place, (made, _, _) in enumerate(self.sent)}
        for served in self.peer.requests:
            made, topic, bearer = self.sent[served.stream_id // 2]
            assert served.body == made.payload
            assert served[":path"] == f"/3/device/{made.token}"
            assert (served.get("apns-topic") or "") == topic
            assert served["authorization"] == bearer.decode()
            assert served["apns-push-type"] == made.part.push_type
            assert served["apns-priority"] == str(made.part.priority)
            assert served["apns-expiration"] == str(made.part.expiration)
            assert (served.get("apns-collapse-id") or "") == made.part.collapse_id
            assert served["apns-id"] == made.apns_id
        assert len(self.peer.requests) == len(self.sent)
        found = {streams[id(o.message)]: (o.phase, o.status, o.reason) for o in self.outcomes}
        assert found == self.said
        assert len(self.outcomes) == len(self.said)


@given(
    steps=st.lists(STEP, max_size=40),
    cut=st.one_of(st.just(0), st.integers(1, 30), st.integers(1000, 20_000)),
    opens_window=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_h2_understands_all_that_we_write_and_we_all_that_h2_does(
    steps: list[tuple[str, int]], cut: int, opens_window: bool
) -> None:
    story = Story(cut, opens_window)
    for what, number in steps:
        try:
            story.step(what, number)
        except FlowControlError:
            assert what in ("credit", "window")  # h2's own windows may not grow beyond 2^31-1
            return
    story.check()
    assert story.wire.in_flight == len(story.peer.open)
