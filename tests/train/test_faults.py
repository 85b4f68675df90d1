"""What goes wrong in long runs, done for real: killed, stopped and frozen processes, a full disk,
a loss that is not a number, damaged checkpoints."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cp2fast.data.order import plan
from cp2fast.train.checkpoint import damage, list_checkpoints
from tests.command_line import Done, cp2fast
from tests.pretrain import runs
from tests.pretrain.runs import BATCH, PHOTOS, losses, start, wait_for_step

pytestmark = pytest.mark.slow

ONE_PROCESS = ["data.source=torch", "data.workers=0"]
EACH_STEP = ["train.checkpoint_minutes=1e-9", "train.steps=12"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def words(out: Path, photos: Path, *more: str) -> list[str]:
    return runs.words(out, photos, *ONE_PROCESS, *EACH_STEP, *more)


def run(out: Path, photos: Path, *more: str) -> Done:
    return cp2fast(*words(out, photos, *more))


def torchrun(out: Path, photos: Path, *more: str, restarts: int = 0) -> subprocess.Popen[str]:
    """Two ranks."""
    launcher = [*TORCHRUN, "--max-restarts", str(restarts)]
    return start([sys.executable, *launcher, "-m", "cp2fast", *words(out, photos, *more)])


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


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks, never disturbed."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    process = torchrun(out, photos)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def test_two_ranks_leave_one_runs_files_and_speak_once(undisturbed: Path) -> None:
    assert [row[0] for row in losses(undisturbed)] == list(range(1, 13))
    assert len(list((undisturbed / "tensorboard").iterdir())) == 1
    assert [damage(path) for path in list_checkpoints(undisturbed / "checkpoints")] == [None, None]


def test_a_killed_rank_is_restarted_and_the_run_ends_as_if_nothing_had_happened(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    process = torchrun(out, photos, restarts=1)
    wait_for_step(out, 5, process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    first_steps = [int(step) for step in re.findall(r"steps (\d+) to 12", output)]
    assert first_steps[0] == 1
    assert 5 <= first_steps[1] <= 12
    assert losses(out) == losses(undisturbed)


def test_an_error_of_one_rank_is_told_and_ends_all(undisturbed: Path, photos: Path) -> None:
    process = torchrun(undisturbed, photos)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    [line] = [line for line in errors.splitlines() if line.startswith("cp2fast:")]
    assert "already holds a run" in line


def test_a_stop_asked_of_one_rank_stops_all_at_the_same_step(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    process = torchrun(out, photos)
    wait_for_step(out, 3, process)
    os.kill(ranks_of(process)[1], signal.SIGTERM)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "stopped and saved" in output
    done = losses(out)
    assert done == losses(undisturbed)[: len(done)]
    newest = list_checkpoints(out / "checkpoints")[-1]
    assert newest.name == f"step_{len(done):09d}.pt"
    assert damage(newest) is None


def test_a_frozen_rank_is_named_and_ends_the_run(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "frozen"
    process = torchrun(out, photos, "train.steps=5000", "train.timeout_minutes=0.2")
    wait_for_step(out, 2, process)
    frozen = ranks_of(process)[1]
    os.kill(frozen, signal.SIGSTOP)
    _, errors = process.communicate()
    assert process.returncode == 1
    [line] = [line for line in errors.splitlines() if line.startswith("cp2fast:")]
    assert "rank 1 of 2 does not answer" in line


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write more into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "full"
    assert run(out, photos, "train.steps=3").returncode == 0
    before = {path: path.read_bytes() for path in list_checkpoints(out / "checkpoints")}
    size = min(map(len, before.values())) // 2
    with files_of_at_most(size):
        done = run(out, photos, "--resume")
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.strip().splitlines()
    assert "step_000000004.pt" in line
    assert "File too large" in line
    assert {path: path.read_bytes() for path in list_checkpoints(out / "checkpoints")} == before
    assert not list((out / "checkpoints").glob("*.partial"))


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_taken(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    assert run(out, photos, "train.steps=4").returncode == 0
    whole = losses(out)
    older, newest = list_checkpoints(out / "checkpoints")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    done = run(out, photos, "train.steps=4", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{newest} is damaged" in done.stdout
    assert "steps 4 to 4" in done.stdout
    assert losses(out) == whole

    for path in (older, newest):
        path.write_bytes(path.read_bytes()[:1000])
    done = run(out, photos, "train.steps=4", "--resume")
    assert done.returncode == 2
    assert "checkpoints" in done.stderr.strip().splitlines()[-1]


def test_a_loss_that_is_not_a_number_stops_the_run_naming_step_and_images(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "broken"
    done = run(out, photos, "train.lr=1e18", "train.log_every=10")
    assert done.returncode == 2, done.stdout + done.stderr
    [line] = done.stderr.strip().splitlines()
    found = re.search(r"broke at step (\d+), images ([\d, ]+) \((.*)\): .*train\.lr=", line)
    assert found, line
    step, images = int(found[1]), [int(number) for number in found[2].split(", ")]
    [numbers] = plan(seed=0, count=PHOTOS, batch_size=BATCH, start=step - 1, stop=step)
    assert images == numbers.tolist()
    assert f"{images[0]:03d}.jpg" in found[3]
    saved = [int(p.stem.removeprefix("step_")) for p in list_checkpoints(out / "checkpoints")]
    assert all(before < step for before in saved)
