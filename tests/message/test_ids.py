"""ids.py: message ids and apns-ids follow from one number and lead back to it."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message.ids import (
    SALT_BITS,
    SEQUENCE_BITS,
    apns_id,
    first_sequence,
    format_mid,
    hex_id,
    parse_mid,
)

sequences = st.integers(0, (1 << SEQUENCE_BITS) - 1)
salts = st.integers(0, (1 << SALT_BITS) - 1)


@given(sequences)
def test_a_message_id_leads_back_to_its_number(sequence):
    assert parse_mid(format_mid(sequence)) == parse_mid(format_mid(sequence).lower()) == sequence


@given(sequences)
def test_a_message_id_has_momentums_form(sequence):
    mid = format_mid(sequence)
    assert len(mid) == 20
    assert (mid[2], mid[5], mid[11]) == ("/", "-", "-")
    assert mid == mid.upper() and mid[6:11].isdecimal()


@given(sequences, sequences)
def test_two_numbers_never_share_a_message_id(one, other):
    assert (format_mid(one) == format_mid(other)) == (one == other)


@pytest.mark.parametrize(
    "mid",
    ["", "x", "00/00-00000-0000000", "00/00-00000-000000000", "0000-00000-00000000", "00/00-0000A-00000000",
     "00/00-99999-00000000", format_mid(7)[:-1] + "8", "FF/FF-00000-00000007", format_mid(7) + "\n"],
)  # fmt: skip
def test_what_was_never_given_out_is_refused(mid):
    with pytest.raises(ValueError, match="message id"):
        parse_mid(mid)


@given(salts, sequences)
def test_an_apns_id_is_a_canonical_lower_case_uuid_of_version_4(salt, sequence):
    text = apns_id(salt, sequence)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 4 and parsed.variant == uuid.RFC_4122


@given(salts, sequences, sequences)
def test_two_messages_of_a_spool_never_share_an_apns_id(salt, one, other):
    assert (apns_id(salt, one) == apns_id(salt, other)) == (one == other)


@given(salts, salts, sequences)
def test_two_spools_differ_in_every_apns_id(one, other, sequence):
    assert (apns_id(one, sequence) == apns_id(other, sequence)) == (one == other)


def test_a_later_spool_starts_above_all_that_an_earlier_one_gave_out():
    earlier = first_sequence(1_767_600_000.0)
    assert earlier > 0
    assert first_sequence(1_767_600_001.0) - earlier == 65_536
    assert first_sequence(4_000_000_000.0) < 1 << SEQUENCE_BITS


def test_a_clock_before_the_beginning_starts_at_zero():
    assert first_sequence(0.0) == 0


@given(st.integers(0, 1 << 70))
def test_a_connection_id_has_the_shape_of_a_message_id(number):
    top = 1 << SEQUENCE_BITS - 1
    assert parse_mid(hex_id(number)) == number % top + top, "it could be a message's"
