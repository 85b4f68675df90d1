"""Two processes that agree."""

import re

import pytest

from tests.processes import two_ranks

pytestmark = pytest.mark.slow

WAITS = """
import time
from cp2fast.train.agreement import Agreement
from cp2fast.train.distributed import device_of, process_group, ranks_from_environment
ranks = ranks_from_environment()
with process_group(ranks, device_of("cpu", ranks), timeout_minutes=-0.475):
    agreement = Agreement(ranks, timeout_minutes=-0.475)
    with agreement.watched():
        time.sleep(4 * ranks.is_main)
        print(*agreement.any(ranks.is_main))
    time.sleep(4 * ranks.is_main)
    print(*agreement.any(ranks.is_main))
"""


def test_processes_wait_for_one_that_is_at_work_while_they_are_watched_and_not_else() -> None:
    ranks = two_ranks(script=WAITS)
    said = [rank.communicate() for rank in ranks]
    assert [output for output, _ in said] == ["True\n"] * 2, said
    assert all(rank.returncode for rank in ranks)
    assert re.search(r"rank 1 of 2 has lost .*raise train\.timeout_minutes", said[1][1])
