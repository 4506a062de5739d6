"""push_types.py: the table of apns.md 2.2 and the topics that follow from it."""

import pytest

from momentum_push.message.push_types import PUSH_TYPES, effective_topic, push_type_of_topic, suits_topic

APP = "com.example.news"
SUFFIXES = {
    "alert": "",
    "background": "",
    "mdm": "",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "location": ".location-query",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}
SUFFIXED = {name: suffix for name, suffix in SUFFIXES.items() if suffix}


def test_the_table_holds_apples_types_with_their_suffixes():
    assert {row.name: row.suffix for row in PUSH_TYPES.values()} == SUFFIXES


def test_only_voip_may_have_5120_bytes():
    assert {name: row.max_bytes for name, row in PUSH_TYPES.items() if row.max_bytes != 4096} == {
        "voip": 5120
    }


@pytest.mark.parametrize("push_type", SUFFIXES)
def test_a_default_topic_is_completed_once_and_never_twice(push_type):
    full = APP + SUFFIXES[push_type]
    assert effective_topic("", APP, push_type) == full
    assert effective_topic("", full, push_type) == full


@pytest.mark.parametrize("push_type", SUFFIXES)
def test_a_named_topic_is_taken_at_its_word(push_type):
    assert effective_topic("com.example.other", APP, push_type) == "com.example.other"


def test_without_any_topic_there_is_none():
    assert effective_topic("", "", "voip") == ""


def test_an_unknown_push_type_has_no_suffix_and_suits_any_topic():
    assert effective_topic("", APP, "hologram") == APP
    assert suits_topic(APP + ".voip", "hologram")


@pytest.mark.parametrize(("push_type", "suffix"), SUFFIXED.items())
def test_a_suffix_tells_the_push_type(push_type, suffix):
    assert push_type_of_topic(APP + suffix) == push_type


def test_a_plain_bundle_id_tells_no_push_type():
    assert push_type_of_topic(APP) == push_type_of_topic("") == ""


@pytest.mark.parametrize("push_type", SUFFIXES)
@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_a_topic_suits_a_type_exactly_when_its_suffix_is_that_types(push_type, suffix):
    assert suits_topic(APP + suffix, push_type) == (suffix == SUFFIXES[push_type])


@pytest.mark.parametrize("topic", [APP + ".voip.voip", APP + ".voip.complication", APP + ".voip.voip-ptt"])
def test_a_topic_with_two_suffixes_suits_no_type(topic):
    assert not any(suits_topic(topic, push_type) for push_type in SUFFIXES)
