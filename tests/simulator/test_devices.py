"""The device table (apns.md 9.4)."""

from momentum_push.simulator.devices import LIVE, Device, Devices, State


def test_strangers_live() -> None:
    assert Devices().find("ab") is LIVE
    assert Devices([Device("cd", state=State.DEAD)]).find("ab") is LIVE


def test_the_whole_token_goes_before_prefixes_and_long_ones_before_short() -> None:
    rows = [Device("a", is_prefix=True), Device("ab", is_prefix=True), Device("abcd")]
    devices = Devices(rows)
    assert [devices.find(token) for token in ("A1", "ABFF", "aBcD")] == rows


def test_rows_can_be_replaced() -> None:
    devices = Devices([Device("ab"), Device("c", is_prefix=True)])
    dead = [Device("ab", state=State.DEAD), Device("c", is_prefix=True, state=State.DEAD)]
    for row in dead:
        devices.put(row)
    assert [devices.find("ab"), devices.find("cc")] == dead


def test_a_rate_bears_so_many_a_second() -> None:
    devices = Devices([Device("ab", rate=2.0)])
    row = devices.find("ab")
    assert [devices.is_over_rate(row, "ab", now) for now in (0.0, 0.4, 0.5, 0.9, 1.0)] == [0, 1, 0, 1, 0]
    assert not devices.is_over_rate(LIVE, "cd", 0.0)
