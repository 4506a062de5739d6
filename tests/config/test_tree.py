"""Blocks of the merged tree: names, order, what matches a domain."""

from tests.helpers.conf import config

TEXT = """
domain "/b/" { }
domain "AB.apns" { }
domain "/a/" { }
binding_group "G" { binding "B" { domain "x" { } } }
apn { }
"""


def test_a_path_names_a_block_in_the_whole_file():
    root = config(TEXT).root
    block = root.get("binding_group", "G").get("binding", "B").get("domain", "X")
    assert block.path == 'binding_group "G" binding "B" domain "x"'
    assert (root.path, root.get("apn", "").path) == ("global", "apn")


def test_the_exact_name_comes_before_the_patterns_in_declaration_order():
    names = [block.instance for block in config(TEXT).root.matching("domain", "ab.apns")]
    assert names == ["AB.apns", "/b/", "/a/"]


def test_a_walk_meets_outer_blocks_first():
    kinds = [block.kind for block in config(TEXT).root.walk()]
    assert kinds == ["global", "domain", "domain", "domain", "binding_group", "binding", "domain", "apn"]


def test_a_block_shows_itself_in_one_line():
    assert repr(config(TEXT).root) == "<global at t.conf, 0 options, 5 stanzas>"
