"""Output into a pipe whose reader has seen enough."""

import pytest

from tests.processes import Process


@pytest.mark.slow
@pytest.mark.parametrize("words", [["models"], ["--version"], ["pretrain", "--help"]])
def test_a_reader_that_leaves_early_is_no_failure(words: list[str]) -> None:
    """As of ``cp2fast models | head -1``."""
    process = Process(*words)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0
    assert errors == ""
