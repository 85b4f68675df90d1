"""Runs that end early, one way or another, and go on as if they had not."""

import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from cp2fast.run_folder import checkpoint_step, list_checkpoints
from tests.command_line import cp2fast, refusal
from tests.pretrain.runs import losses, run, words, write_photos
from tests.processes import Process, signalled

pytestmark = pytest.mark.slow


def test_the_same_command_gives_the_same_losses(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    """In a process of its own as in this one."""
    process = Process(*words(tmp_path / "again", photos, "train.steps=12"))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert losses(tmp_path / "again") == losses(undisturbed)


def test_a_killed_run_resumes_mid_epoch_and_repeats_the_undisturbed_one_bit_for_bit(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    """By one source: tests/data holds every other one to the same batches."""
    out = tmp_path / "killed"
    each_step = ("train.steps=12", "train.checkpoint_minutes=1e-9")
    process = signalled(signal.SIGKILL, 7, *words(out, photos, *each_step))
    assert process.wait() == -signal.SIGKILL
    step = checkpoint_step(list_checkpoints(out / "checkpoints")[-1])
    assert 2 <= step <= 7  # the newest that was written whole beside seven steps
    done = run(out, photos, *each_step, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"steps {step + 1} to 12" in done.stdout
    assert losses(out) == losses(undisturbed)


def test_a_run_killed_before_its_first_checkpoint_resumes_from_its_start(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "killed")
    shutil.rmtree(out / "checkpoints")
    (out / "checkpoints").mkdir()
    done = run(out, photos, "train.steps=12", "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(undisturbed)


def test_a_run_stopped_before_anything_was_logged_says_so(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = Process(*words(out, photos, "train.steps=5000", "train.log_every=5000"))
    while not (out / "preview.png").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "no step was logged yet" in output
    assert list((out / "checkpoints").glob("*.pt"))


def test_filling_the_queue_can_be_stopped(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    long = ["model.queue=65536", "model.queue_start=keys"]
    process = Process(*words(out, photos, "train.steps=2", *long))
    for line in process.stdout:
        if line.startswith("filling the queue"):
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "0 steps in 0 min" in output
    assert f"continue with: cp2fast pretrain --resume --out {out}" in output
    assert not list((out / "checkpoints").glob("*.pt"))


def test_one_logged_step_is_not_told_as_a_beginning_and_an_end(
    photos: Path, tmp_path: Path
) -> None:
    done = run(tmp_path / "run", photos, "train.steps=3", "train.log_every=10")
    assert re.search(r"; loss \d\.\d{3} at step 3, the only one logged\n", done.stdout)
    assert "tenth" not in done.stdout


def test_ctrl_c_saves_says_how_to_go_on_and_exits_cleanly(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    process = signalled(signal.SIGINT, 2, *words(out, photos, "train.steps=12"))
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"cp2fast pretrain --resume --out {out}" in output
    resumed = cp2fast("pretrain", "--resume", "--out", out)
    assert resumed.returncode == 0, resumed.stderr
    assert losses(out) == losses(undisturbed)


def test_a_folder_that_holds_a_run_is_refused_and_resuming_a_complete_run_changes_nothing(
    undisturbed: Path, photos: Path
) -> None:
    before = {p: p.read_bytes() for p in undisturbed.rglob("*") if p.is_file()}
    message = refusal(run(undisturbed, photos, "train.steps=12"))
    assert "--resume" in message
    assert "--out" in message
    complete = run(undisturbed, photos, "train.steps=12", "--resume")
    assert complete.returncode == 0
    assert "is complete" in complete.stdout
    after = {p: p.read_bytes() for p in undisturbed.rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("fewer", "enough"),
    [
        (["train.steps=7"], "train.steps to 12"),
        (["train.steps=null", "train.epochs=2"], "train.epochs to 3"),
    ],
)
def test_a_run_is_not_resumed_to_end_before_the_step_it_has_reached(
    undisturbed: Path, photos: Path, fewer: list[str], enough: str
) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files(undisturbed)}
    message = refusal(run(undisturbed, photos, *fewer, "--resume"))
    assert fewer[-1] in message
    assert "step 12" in message
    assert enough in message
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files(undisturbed)} == before


def test_resuming_a_complete_run_writes_nothing(undisturbed: Path, photos: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in files(undisturbed)}
    done = run(undisturbed, photos, "train.steps=12", "train.log_every=5", "--resume")
    assert "all 12 steps were run before" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in files(undisturbed)} == before


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("train.seed=5", "train.seed=5"),
        ("data.batch_size=5", "data.batch_size=5"),
        ("model.head=fcn", "model.head=fcn"),
    ],
)
def test_a_run_is_not_resumed_as_another(
    undisturbed: Path, photos: Path, change: str, named: str
) -> None:
    message = refusal(run(undisturbed, photos, "train.steps=20", change, "--resume"))
    assert named in message
    assert "--out" in message


def test_larger_batches_that_shorten_a_run_below_its_step_are_what_is_refused(
    undisturbed: Path, photos: Path
) -> None:
    """Not the number of epochs, which is the one that it was started with."""
    changed = ["data.batch_size=8", "train.steps=null", "train.epochs=3"]  # 6 steps
    assert "8 samples a step" in refusal(run(undisturbed, photos, *changed, "--resume"))


def test_resuming_on_other_images_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "other", 9)
    assert "9 images" in refusal(run(undisturbed, other, "train.steps=20", "--resume"))
