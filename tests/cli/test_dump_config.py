"""`dump-config`: what is in effect and where it was written."""

import pytest
import yaml
from click.testing import CliRunner

from momentum_push.cli.dump_config import as_text, command
from momentum_push.config import loads
from momentum_push.config.tree import Block
from tests.helpers.conf import EXAMPLE_21, EXAMPLE_71, config

RICH = (
    EXAMPLE_21
    + EXAMPLE_71
    + """
proxy = "http://user:secret@proxy.example:3128"
outbound_throttle_messages = "100/60"
max_retries = auto
domain "/^\\d+[.]apns$/" { apn_topics = ( "a" "b" ) blackhole = true }
binding_group "g" { retry_interval = 5 binding "b" { domain "x" { idle_timeout = 3 } } }
http_listener { listen "127.0.0.1:8081" { context = [ tenant = "a b" ] file_mode = 0600 } }
esmtp_listener { idle_time = 9 listen "[::1]:25" { peer "10.0.0.0/8" { mcmt_reception = allow } } }
security { user = "" }
"""
)


def run(tmp_path, text, *args):
    path = tmp_path / "push.conf"
    path.write_text(text)
    result = CliRunner().invoke(command, ["-c", str(path), *args])
    return result.exit_code, result.stdout.replace(f"{tmp_path}/", ""), result.stderr


def values(block: Block):
    """All that a tree says, without places."""
    own = {name: setting.value for name, setting in block.settings.items()}
    return own, [(child.kind, child.instance, values(child)) for child in block.children.values()]


def test_the_text_parses_again_to_the_same_configuration():
    conf = loads(RICH.replace("user:secret@", ""))
    assert values(loads(as_text(conf)).root) == values(conf.root)


def test_dumping_the_dump_says_the_same_but_for_places():
    once = as_text(loads(RICH.replace("user:secret@", "")))
    again = as_text(loads(once))
    assert [line.split("  # ")[0] for line in once.splitlines()] == [
        line.split("  # ")[0] for line in again.splitlines()
    ]


def test_every_value_has_its_origin(tmp_path):
    status, text, _ = run(tmp_path, EXAMPLE_21)
    assert status == 0
    lines = [line for line in text.splitlines() if not line.endswith("# default")]
    assert lines == [
        "retry_interval = 1200  # push.conf:1",
        'domain "news.apns" {  # push.conf:2',
        "  retry_interval = 60  # push.conf:2",
        "}",
        'binding "fast" {  # push.conf:3',
        "  retry_interval = 10  # push.conf:3",
        '  domain "vip.apns" {  # push.conf:3',
        "    retry_interval = 1  # push.conf:3",
        "  }",
        "}",
        'binding "plain" {  # push.conf:4',
        "  # retry_interval = 1200  # push.conf:1",
        '  domain "news.apns" {  # push.conf:4',
        "    # retry_interval = 60  # push.conf:2",
        "    idle_timeout = 30  # push.conf:4",
        "  }",
        "}",
    ]


def test_defaults_are_comments_once_where_they_are_outermost(tmp_path):
    _, text, _ = run(tmp_path, RICH)
    assert text.count("# max_retry_interval = 43200  # default") == 1
    assert text.count("log_heartbeat_format = ") == 1
    assert "# force_fsync = true  # default" in text


def test_passwords_in_urls_are_hidden(tmp_path):
    for flag in ([], ["--yaml"]):
        _, text, _ = run(tmp_path, RICH, *flag)
        assert "secret" not in text and "http://user:***@proxy.example:3128" in text


@pytest.mark.parametrize("login", ["user:s3@cret", "user:s/ecret", "user:s ecret", "secret"])
def test_passwords_of_a_proxy_are_hidden_however_they_are_written(tmp_path, login):
    _, text, _ = run(tmp_path, f'proxy = "http://{login}@proxy.example:3128"')
    assert "ecret" not in text and "cret" not in text and "***@proxy.example:3128" in text


def test_yaml_holds_value_and_origin(tmp_path):
    status, text, _ = run(tmp_path, RICH, "--yaml")
    tree = yaml.safe_load(text)
    assert status == 0
    assert tree["options"]["retry_interval"] == {"value": 1200, "from": "push.conf:1"}
    assert tree["options"]["force_fsync"] == {"value": True, "from": "default"}
    assert tree["options"]["outbound_throttle_messages"]["value"] == "100/60"
    (group,) = [stanza for stanza in tree["stanzas"] if "binding_group" in stanza]
    domain = group["stanzas"][0]["stanzas"][0]
    assert (domain["domain"], domain["options"]["retry_interval"]["value"]) == ("x", 5)
    (http,) = [stanza for stanza in tree["stanzas"] if "http_listener" in stanza]
    assert http["stanzas"][0]["options"]["file_mode"]["value"] == "0600"
    assert http["stanzas"][0]["options"]["context"]["value"] == {"tenant": "a b"}


def test_a_value_that_was_raised_is_shown_as_it_is_in_effect(tmp_path):
    _, text, _ = run(tmp_path, EXAMPLE_71)
    assert "  delivery_response_timeout = 5000  # push.conf:13" in text


def test_a_configuration_that_cannot_be_used_is_no_output(tmp_path):
    status, out, err = run(tmp_path, "qqqq = 1")
    assert (status, out) == (1, "")
    assert err.endswith(
        'push.conf:1:1: unknown option "qqqq" in global scope; remove it or correct its name\n'
    )


def test_help_has_an_example():
    assert "Example: momentum-push dump-config -c" in CliRunner().invoke(command, ["--help"]).stdout


def test_an_empty_configuration_is_all_defaults():
    assert all(line.startswith("# ") for line in as_text(config("")).splitlines())
