"""Two processes that agree."""

import re
from pathlib import Path

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


TELLS_ITS_END = """
import atexit
from cp2fast.cli import main
atexit.register(print, "the interpreter ends")
main()
"""


def test_a_refused_command_ends_beside_torchs_threads_which_could_abort_it(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    words = ["pretrain", f"data.root={tmp_path}", "train.device=cpu", "--out", tmp_path]
    ranks = two_ranks(*words, script=TELLS_ITS_END)
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert [output for output, _ in said] == ["", ""]
    assert "is not empty and holds no run" in said[0][1]


def test_processes_wait_for_one_that_is_at_work_while_they_are_watched_and_not_else() -> None:
    ranks = two_ranks(script=WAITS)
    said = [rank.communicate() for rank in ranks]
    assert [output for output, _ in said] == ["True\n"] * 2, said
    assert all(rank.returncode for rank in ranks)
    assert re.search(r"rank 1 of 2 has lost .*raise train\.timeout_minutes", said[1][1])
