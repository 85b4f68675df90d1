"""Runs of two processes, for both tasks: killed, stopped and frozen, together and one alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from cp2fast.run_folder import RunFolder, checkpoint_step, damage, list_checkpoints
from cp2fast.train.lock import locked
from tests.pretrain.runs import start, wait_for_step
from tests.processes import torchrun, two_ranks
from tests.train.tasks import TORCHRUN, Kind, losses, newest

pytestmark = pytest.mark.slow


def ranks_of(torchrun: subprocess.Popen[str]) -> list[int]:
    """Process ids of the two ranks, in their order."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    by_rank = {}
    for child in map(int, children):
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        rank = next((e for e in environment if e.startswith(b"RANK=")), None)
        if rank is not None:
            by_rank[int(rank.removeprefix(b"RANK="))] = child
    return [by_rank[0], by_rank[1]]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, never disturbed."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    ranks = two_ranks(*kind.words(out))
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert "steps 1 to 12" in said[0][0]
    assert said[1] == ("", "")
    return out


def test_two_ranks_leave_one_runs_files(undisturbed: Path) -> None:
    assert [step for step, _ in losses(undisturbed)] == list(range(1, 13))
    assert len(list((undisturbed / "tensorboard").iterdir())) == 1
    assert [damage(path) for path in list_checkpoints(undisturbed / "checkpoints")] == [None, None]
    assert not (undisturbed / "running.lock").exists()


@pytest.mark.parametrize("kind", ["pretrain"], indirect=True)
def test_a_killed_rank_is_restarted_by_torchrun_and_the_run_ends_as_if_nothing_had_happened(
    kind: Kind, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = start(kind.command(out, launcher=[*TORCHRUN, "--max-restarts", "1"]))
    wait_for_step(out, 7, process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    first_steps = [int(step) for step in re.findall(r"steps (\d+) to 12", output)]
    assert first_steps[0] == 1
    assert 2 <= first_steps[1] <= 12
    assert losses(out) == losses(undisturbed)


@pytest.mark.parametrize("kind", ["pretrain"], indirect=True)
def test_what_torchrun_restarts_takes_no_run_that_it_did_not_begin(
    kind: Kind, undisturbed: Path
) -> None:
    """The refusal of the first attempt is a failure too, after which torchrun tries again."""
    before = files(undisturbed)
    words = [*TORCHRUN[2:], "--max-restarts", 1, "-m", "cp2fast"]
    words += kind.words(undisturbed, "train.steps=14", "train.lr=0.5")
    launch = torchrun(*words)
    _, errors = launch.communicate()
    assert launch.returncode != 0
    assert errors.count("already holds a run") >= 2
    assert files(undisturbed) == before


@pytest.mark.parametrize(
    ("option", "why"), [([], "already holds a run"), (["--resume"], "still running")]
)
def test_what_the_main_process_alone_refuses_is_told_once_and_ends_all(
    kind: Kind, undisturbed: Path, option: list[str], why: str
) -> None:
    with locked(RunFolder(undisturbed)):
        ranks = two_ranks(*kind.words(undisturbed, *option))
        said = [rank.communicate()[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2], said
    [line] = "".join(said).splitlines()
    assert line.startswith("cp2fast: ")
    assert why in line


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("kind", ["finetune"], indirect=True)
def test_a_rank_that_loses_the_others_says_so_in_a_line(
    kind: Kind, lost: int, tmp_path: Path
) -> None:
    out = tmp_path / "lost"
    ranks = two_ranks(*kind.words(out, "train.steps=5000"))
    wait_for_step(out, 2, ranks[0])
    ranks[lost].kill()
    _, errors = ranks[1 - lost].communicate()
    assert ranks[1 - lost].returncode == 2
    [line] = errors.splitlines()
    assert re.fullmatch(
        rf"cp2fast: rank {1 - lost} of 2 has lost the others \(.*\): look at .*", line
    )


def test_a_stop_asked_of_one_rank_stops_all_at_the_same_step(
    kind: Kind, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    ranks = two_ranks(*kind.words(out))
    wait_for_step(out, 3, ranks[0])
    ranks[1].send_signal(signal.SIGTERM)
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    done = losses(out)
    assert done == losses(undisturbed)[: len(done)]
    assert ("stopped and saved" in said[0][0]) == (len(done) < 12)
    assert checkpoint_step(newest(out)) == len(done)
    assert damage(newest(out)) is None


@pytest.mark.parametrize(
    ("frozen", "named"), [(1, "rank 1 of 2 does not answer"), (0, "rank 0 without it, does not")]
)
def test_a_frozen_rank_is_named_and_ends_the_run(
    kind: Kind, frozen: int, named: str, tmp_path: Path
) -> None:
    """Also rank 0, which holds the store of the watchdogs where no torchrun does."""
    out = tmp_path / "frozen"
    ranks = two_ranks(*kind.words(out, "train.steps=5000", "train.timeout_minutes=0.1"))
    wait_for_step(out, 2, ranks[0])
    ranks[frozen].send_signal(signal.SIGSTOP)
    other = ranks[1 - frozen]
    _, errors = other.communicate()
    ranks[frozen].kill()
    assert other.returncode == 1
    [line] = [line for line in errors.splitlines() if line.startswith("cp2fast:")]
    assert named in line
