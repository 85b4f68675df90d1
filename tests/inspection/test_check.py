"""A test that passes, that finds nothing, that fails."""

import pytest

from cp2fast.errors import UserError
from cp2fast.inspection.check import Missing, perform


def failing(error: Exception):
    def test() -> str:
        raise error

    return test


def test_what_works_says_what_it_did() -> None:
    check = perform("thing", lambda: "did it", needed=True, fix="never shown")
    assert (check.status, check.detail, check.fix) == ("ok", "did it", None)
    assert not check.fails


def test_what_is_not_there_says_how_to_get_it() -> None:
    check = perform("thing", failing(Missing("no thing here", "pip install thing")))
    assert (check.status, check.detail, check.fix) == (
        "missing",
        "no thing here",
        "pip install thing",
    )


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (RuntimeError("first line\nsecond line"), "RuntimeError: first line"),
        (OSError(), "OSError: "),
        (UserError("do this instead"), "do this instead"),
    ],
)
def test_what_fails_says_why_in_one_line_and_what_helps(error: Exception, detail: str) -> None:
    check = perform("thing", failing(error), fix="mend it")
    assert (check.status, check.detail, check.fix) == ("broken", detail, "mend it")


@pytest.mark.parametrize("error", [Missing("not here"), RuntimeError("no")])
def test_only_what_is_needed_makes_pretraining_fail(error: Exception) -> None:
    assert perform("thing", failing(error), needed=True).fails
    assert not perform("thing", failing(error), needed=False).fails


def test_an_interruption_is_no_result() -> None:
    with pytest.raises(KeyboardInterrupt):
        perform("thing", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
