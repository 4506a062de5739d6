"""The soak of `scripts/bench soak`, twenty seconds of it; and its books, which must be able to fail.

Memory takes longer to judge than a test may last; that figure is the long run's.
"""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from momentum_push.simulator import parse_faults
from tests.bench.soak import soak, table
from tests.bench.soak_books import Books
from tests.bench.soak_faults import DECK, fault_file


def test_twenty_seconds_of_random_faults_break_no_law(tmp_path: Path) -> None:
    report = soak(tmp_path, 20.0, 400, seed=11)
    assert report.breaches == [], table(report)
    assert report.accepted == report.delivered + report.failed > 20 * 400 * 0.9
    assert len(set(report.faults) & set(DECK)) >= 3, report.faults


def test_the_same_seed_brings_the_same_faults_and_another_one_others() -> None:
    assert fault_file(1, 60, 1) == fault_file(1, 60, 1)
    assert len({fault_file(seed, 60, number) for seed in (1, 2) for number in (1, 2)}) == 4


def test_a_long_run_has_all_faults_and_calm_between_them() -> None:
    text = fault_file(1, 600, 1)
    assert len(parse_faults(text).rules) > len(DECK)
    hours = [(rule["match"]["from"], rule["match"]["until"]) for rule in yaml.safe_load(text)["rules"]]
    assert {rule["name"] for rule in yaml.safe_load(text)["rules"]} == set(DECK)
    phases = sorted(set(hours))
    assert all(first[1] < second[0] for first, second in pairwise(phases))


SOUND = (["D@m1@A@h@200", "T@m2@B@h@0", "D@m2@B@h@200", "P@m3@C@h@410@x"], ["A", "B", "B"])


@pytest.mark.parametrize(
    ("records", "processed", "accepted", "known", "words"),
    [
        (*SOUND, 3, {"a", "b", "c"}, ""),
        (*SOUND, 4, {"a"}, "3 have a final record"),
        (*SOUND, 3, {"a", "d"}, "acknowledged over HTTP"),
        (["D@m1@A@h@200", "D@m1@A@h@200"], ["A"], 2, {"a"}, "more than one final record"),
        (["D@m1@A@h@200"], [], 1, {"a"}, "never accepted by the peer"),
        (["P@m1@A@h@400@x"], ["A"], 1, {"a"}, "which no record says"),
        (["P@m1@A@h@0@x"], ["A"], 1, {"a"}, ""),
        (["P@m1@A@@0@x"], ["A"], 1, {"a"}, "which no record says"),
        (["D@m1@A@h@200"], ["A", "A"], 1, {"a"}, "though their outcome was known"),
        (["T@m1@A@h@0", "D@m1@A@h@200"], ["A", "A"], 1, {"a"}, ""),
    ],
)
def test_the_books_tell_what_is_wrong(
    tmp_path: Path, records: list[str], processed: list[str], accepted: int, known: set[str], words: str
) -> None:
    (tmp_path / "soak.ec").write_text("".join(line + "\n" for line in records))
    lines = [f'{{"apns_id":"{each}","processed":true,"fault":"","reason":""}}\n' for each in processed]
    (tmp_path / "ledger").write_text("".join(lines))
    books = Books()
    books.read_records(tmp_path / "soak.ec")
    books.read_ledger(tmp_path / "ledger")
    found = list(books.breaches(accepted, known))
    assert [words in each for each in found] == ([True] if words else []), found
