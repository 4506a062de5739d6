"""Momentum's `!=`, outside strings and comments."""

import pytest

from momentum_push.scripting.lua.dialect import plain


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (b"a != b", b"a ~= b"),
        (b"'!=' != \"!=\"", b"'!=' ~= \"!=\""),
        (b"'\\'!=' != x", b"'\\'!=' ~= x"),
        (b"-- a != b\nx != y", b"-- a != b\nx ~= y"),
        (b"--[==[ != ]] \n != ]==] x != y", b"--[==[ != ]] \n != ]==] x ~= y"),
        (b"s = [[ != ]] != t", b"s = [[ != ]] ~= t"),
        (b"#!/usr/bin/lua\nx != y", b"--/usr/bin/lua\nx ~= y"),
        (b"t[1]!=t[2]", b"t[1]~=t[2]"),
    ],
)
def test_not_equal_is_translated_where_it_is_code(text, after):
    assert plain(text) == after
    assert plain(after) == after or text.startswith(b"#")
