"""`momentum-push spool` against spools made on the spot."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from momentum_push.cli.spool import command
from momentum_push.errors import SpoolError
from momentum_push.message.ids import format_mid
from tests.helpers.lists import message_list, part, queue_key, token_of
from tests.helpers.spools import SqliteBench, opened


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration whose spool holds four messages of two queues."""
    bench = SqliteBench(tmp_path)

    async def fill() -> None:
        shared = part(context={"DLV_Dest_ID": token_of(12).upper()}, collapse_id="score")
        async with opened(bench) as spool:
            first = message_list(3, first=10, shared=shared, rcpt=token_of(12))
            await spool.append(
                [first, message_list(1, first=20, queue=queue_key("b.apns"), lane=5, due=1_767_600_060)]
            )
            first.home.mark(2)
            await spool.mark_sent([first.home])

    asyncio.run(fill())
    path = tmp_path / "ecelerity.conf"
    path.write_text(f'spoolbase = "{bench.folder}"\n')
    return path


def call(conf: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [*words, "-c", str(conf)])


def test_ls_shows_what_waits_by_queue_and_lane(conf: Path) -> None:
    result = call(conf, "ls")
    assert result.exit_code == 0
    first, second = (line.split("\t") for line in result.output.splitlines() if "messages" in line)
    assert first[:6] == ["b.apns", "default", "default", "lane 5", "1 messages", "1 lists"]
    assert first[7] == "next 2026-01-05T08:01:00+00:00"
    assert second[:6] == ["com.example.news.apns", "default", "default", "lane 10", "3 messages", "1 lists"]


def test_ls_messages_shows_ids_and_short_tokens(conf: Path) -> None:
    result = call(conf, "ls", "--messages")
    lines = [line.split("\t") for line in result.output.splitlines() if "attempts" in line]
    assert [line[0] for line in lines] == [format_mid(sequence) for sequence in (10, 11, 12, 20)]
    assert lines[0][1] == token_of(10)[:8] + "…"
    assert [line[0] for line in lines if line[-1] == "outcome unknown"] == [format_mid(12)]


def test_show_prints_a_message_without_its_token(conf: Path) -> None:
    result = call(conf, "show", format_mid(12))
    assert result.exit_code == 0
    assert token_of(12)[:8] + "…" in result.output
    assert token_of(12)[:9] not in result.output.lower()
    for text in (
        "collapse id:   score",
        "DLV_Dest_ID=",
        "Ferry cancelled",
        "place 2 of 3",
        "attempts:      0",
        "outcome:       unknown: it may have been sent",
    ):
        assert text in result.output


def test_show_says_when_a_message_is_not_there(conf: Path) -> None:
    result = call(conf, "show", format_mid(13))
    assert isinstance(result.exception, SpoolError)
    assert f"no message {format_mid(13)} is waiting" in str(result.exception)


def test_show_takes_a_typing_error_for_wrong_usage(conf: Path) -> None:
    assert call(conf, "show", "00/00-00000-00000001").exit_code == 2


def test_check_says_valid_or_what_fails(conf: Path, tmp_path: Path) -> None:
    result = call(conf, "check")
    assert result.exit_code == 0
    assert "Spool valid: 4 messages in 2 lists" in result.output
    with closing(sqlite3.connect(tmp_path / "spool" / "spool.db", isolation_level=None)) as database:
        database.execute("UPDATE lists SET body = x'01' WHERE number = 2")
    result = call(conf, "check")
    assert result.exit_code == 1
    assert "FAIL 2: 1 bytes are too few\n" in result.output


def test_a_spool_that_is_not_there_is_an_error(conf: Path) -> None:
    conf.write_text('spoolbase = "/nowhere/at/all"\n')
    assert isinstance(call(conf, "ls").exception, SpoolError)
