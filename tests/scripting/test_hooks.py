"""The table of hooks and the class say the same."""

import inspect
from pathlib import Path

import pytest

from momentum_push.scripting import HOOKS, Hooks
from momentum_push.scripting.constants import (
    APN,
    DELIVERY_PERMFAILED,
    DELIVERY_SUCCESS,
    DELIVERY_TEMPFAILED,
    apn_status_classifier,
    gcm_classify_error,
)
from momentum_push.scripting.hooks import overridden

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_every_hook_is_a_documented_no_op_with_as_many_arguments(hook):
    method = getattr(Hooks, hook.name)
    parameters = inspect.signature(method).parameters
    assert inspect.getdoc(method) and len(parameters) == 1 + len(hook.arguments)
    assert method(Hooks(), *[None] * len(hook.arguments)) in (0, None)
    assert hasattr(Hooks, f"{hook.name}_list") == hook.has_list
    if hook.has_list:
        assert getattr(Hooks(), f"{hook.name}_list")([]) is None


def test_the_class_has_no_hook_that_the_table_has_not():
    known = {hook.name for hook in HOOKS} | {f"{hook.name}_list" for hook in HOOKS if hook.has_list}
    assert {name for name in vars(Hooks) if inspect.isfunction(getattr(Hooks, name))} == known


def test_the_page_for_operators_names_every_hook_and_where_it_runs():
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    for hook in HOOKS:
        (row,) = [line for line in rows if f"`{hook.name}`" in line.split("|")[1] and "|" in line[2:]][:1]
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[2].replace(" ", "") == ",".join(hook.arguments)
        assert cells[3] == hook.where.value
        assert cells[4].strip("`") == hook.stop.value
        assert (cells[5] == "yes") == hook.has_list


def test_only_what_a_script_overrides_is_found():
    class Mine(Hooks):
        def validate_dealloc(self, vctx):
            return 1

        def apn_request_eval_list(self, calls):
            return None

    assert set(overridden(Mine())) == {"validate_dealloc", "apn_request_eval_list"}
    assert overridden(Hooks()) == {}


@pytest.mark.parametrize(
    ("status", "result"),
    [(0, DELIVERY_SUCCESS), (8, DELIVERY_PERMFAILED), (404, DELIVERY_PERMFAILED)]
    + [(status, DELIVERY_TEMPFAILED) for status in (1, 9, 10, 255, 429, 500, 503, -1)]
    + [(status, DELIVERY_PERMFAILED) for status in range(2, 9)],
)
def test_apns_statuses_are_classified_as_in_the_manual(status, result):
    assert apn_status_classifier(status) == result


def test_the_constants_have_the_numbers_of_the_manual():
    assert (APN["APNS_NO_ERROR"], APN["APNS_INVALID_TOKEN"], APN["APNS_SHUTDOWN"]) == (0, 8, 10)


@pytest.mark.parametrize(
    ("status", "result"), [(0, DELIVERY_SUCCESS), (1, DELIVERY_TEMPFAILED), (5, DELIVERY_PERMFAILED)]
)
def test_gcm_statuses_too(status, result):
    assert gcm_classify_error(status) == result
