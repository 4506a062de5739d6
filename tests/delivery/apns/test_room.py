"""What a connection takes, by streams, windows and the size of what went before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from momentum_push.delivery.apns.room import TYPICAL_BODY, Room


@dataclass
class Link:
    """A peer's limits, as `link` knows them."""

    max_streams: int = 1000
    window: int = 65_535
    initial_window: int = 65_535
    widest: int = 65_535

    @property
    def room(self) -> int:
        return min(self.window, self.initial_window)


def room_of(link: Link, body: int = TYPICAL_BODY, max_streams: int = 1000) -> Room:
    room = Room(cast(Any, link), max_streams)
    link.window += body
    room.spend(1, body)
    return room


@pytest.mark.parametrize(
    ("window", "slots", "is_idle", "wanted", "messages"),
    [
        (65_535, 7, False, 0, 7),
        (65_535, 0, True, 0, 0),
        (65_535, -3, True, 0, 0),
        (1000, 7, False, 0, 3),
        (255, 7, False, 0, 0),
        (255, 7, True, 0, 1),
        (0, 7, True, 0, 0),
        (-5, 7, True, 0, 0),
        (1000, 7, True, 1001, 0),
        (1000, 7, True, 1000, 3),
    ],
)
def test_streams_and_windows_must_do_both(
    window: int, slots: int, is_idle: bool, wanted: int, messages: int
) -> None:
    room = room_of(Link(window=window))
    room.wanted = wanted
    assert room.messages(slots, is_idle) == messages


@pytest.mark.parametrize(
    ("body", "peers", "ours", "trip", "is_window_bound"),
    [
        (256, 1000, 1000, 128, True),
        (4096, 1000, 1000, 8, True),
        (100_000, 1000, 1000, 1, True),
        (256, 10, 1000, 10, False),
        (256, 1000, 10, 10, False),
        (256, 0, 1000, 1, False),
    ],
)
def test_a_trip_is_half_a_window_or_all_streams(
    body: int, peers: int, ours: int, trip: int, is_window_bound: bool
) -> None:
    """apns.md 6.2."""
    room = room_of(Link(max_streams=peers), body, ours)
    assert (room.trip, room.is_window_bound) == (trip, is_window_bound)


def test_the_size_of_a_body_is_the_mean_of_the_last_ones() -> None:
    link = Link()
    room = room_of(link)
    room.spend(10, 10_000)
    assert (link.window, room.messages(1000, is_idle=False)) == (55_535, 55)


def test_a_peer_chokes_from_the_first_look_without_room_until_there_is_some() -> None:
    link = Link(window=100)
    room = room_of(link)
    room.wanted = 200
    for is_excused, now, choked_at in [(True, 1.0, None), (False, 2.0, 2.0), (False, 3.0, 2.0)]:
        room.watch(7, is_excused, now)
        assert room.choked_at == choked_at
    assert (
        room.complaint
        == "the peer left no room for a request of 200 bytes (1000 streams, windows 100 and 65535)"
    )
    link.window = 200
    room.watch(7, False, 4.0)
    assert (room.choked_at, room.wanted) == (None, 0)


def test_no_slot_chokes_as_well() -> None:
    room = room_of(Link(max_streams=0))
    room.watch(0, False, 1.0)
    assert room.choked_at == 1.0
