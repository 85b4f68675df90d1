"""What can go wrong with runs of both tasks: killed, stopped and renamed ones, a full disk, a loss
that is not a number, damaged checkpoints."""

from __future__ import annotations

import re
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch

from cp2fast.data.order import plan
from cp2fast.data.scenes import generate_scenes
from cp2fast.run_folder import checkpoint_step, damage, list_checkpoints
from tests.command_line import refusal
from tests.limits import at_most
from tests.pretrain.runs import BATCH, PHOTOS, wait_for_step, write_photos
from tests.processes import Process
from tests.train.tasks import Kind, losses, newest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three_steps(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process with a checkpoint of its third step; to be copied."""
    out = tmp_path_factory.mktemp("runs") / "three"
    done = kind.run(out, "train.steps=3")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def out(three_steps: Path, tmp_path: Path) -> Path:
    """A copy of that run, to go on with."""
    return shutil.copytree(three_steps, tmp_path / "run")


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(kind: Kind, out: Path) -> None:
    before = {path: path.read_bytes() for path in list_checkpoints(out / "checkpoints")}
    size = min(map(len, before.values())) // 2
    with at_most(size, resource.RLIMIT_FSIZE):
        line = refusal(kind.run(out, "--resume"))
    assert re.search(r"step_0000000(04|05|06|07|08|09|10|11|12)\.pt", line)
    assert "File too large" in line
    assert {path: path.read_bytes() for path in list_checkpoints(out / "checkpoints")} == before
    assert not list((out / "checkpoints").glob(".*.partial"))
    assert not (out / "running.lock").exists()


def test_memory_that_runs_out_is_told_with_the_settings_that_need_less(
    kind: Kind, tmp_path: Path
) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + (1 << 30)  # a batch of such images takes 3 GiB or more
    with at_most(size, resource.RLIMIT_AS):
        line = refusal(kind.run(tmp_path / "run", "data.batch_size=6", "model.size=8192"))
    assert "the memory of cpu does not hold data.batch_size=6" in line
    assert "data.batch_size=3 train.gradient_accumulation_steps=2" in line
    assert not list_checkpoints(tmp_path / "run/checkpoints")


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_taken(kind: Kind, out: Path) -> None:
    assert kind.run(out, "train.steps=4", "--resume").returncode == 0
    whole = losses(out)
    older, damaged = list_checkpoints(out / "checkpoints")
    assert (checkpoint_step(older), checkpoint_step(damaged)) == (3, 4)
    flip_a_bit(damaged)
    done = kind.run(out, "train.steps=4", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{damaged} is damaged" in done.stdout
    assert "steps 4 to 4" in done.stdout
    assert losses(out) == whole

    for path in (older, damaged):
        path.write_bytes(path.read_bytes()[:1000])
    assert "checkpoints" in refusal(kind.run(out, "train.steps=4", "--resume"))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_loss_that_is_not_a_number_stops_the_run_naming_step_and_images(
    kind: Kind, tmp_path: Path
) -> None:
    out = tmp_path / "broken"
    words = ["train.lr=1e18", "train.log_every=10", "train.checkpoint_minutes=10"]
    line = refusal(kind.run(out, *words))
    found = re.search(r"broke at step (\d+), images ([\d, ]+) \((.*)\): .*train\.lr=", line)
    assert found, line
    step, images = int(found[1]), [int(number) for number in found[2].split(", ")]
    if kind.name == "pretrain":
        [numbers] = plan(seed=0, count=PHOTOS, batch_size=BATCH, start=step - 1, stop=step)
        assert images == numbers.tolist()
        assert f"{images[0]:03d}.jpg" in found[3]
    else:
        photos = (kind.data / "ImageSets/Segmentation/train.txt").read_text().split()
        assert f"{photos[images[0]]}.jpg" in found[3]
        assert not (out / "result.json").exists()
    assert all(checkpoint_step(p) < step for p in list_checkpoints(out / "checkpoints"))
    assert all("NaN" not in line for line in (out / "metrics.jsonl").read_text().splitlines())


def test_weights_that_are_not_numbers_are_refused_before_the_run_begins(
    kind: Kind, out: Path, tmp_path: Path
) -> None:
    state = torch.load(newest(out), weights_only=True)
    name = next(name for name in state["model"] if "backbone" in name and name.endswith("weight"))
    state["model"][name].fill_(float("nan"))
    torch.save(state, tmp_path / "broken.pt")
    line = refusal(kind.run(tmp_path / "other", f"model.init={tmp_path / 'broken.pt'}"))
    assert "broken.pt" in line
    assert "NaN" in line
    assert not (tmp_path / "other").exists()


def test_a_run_that_is_still_running_is_neither_resumed_nor_disturbed(
    kind: Kind, tmp_path: Path
) -> None:
    out = tmp_path / "my run"
    process = Process(*kind.words(out, "train.steps=5000"))
    wait_for_step(out, 3, process)
    line = refusal(kind.run(out, "train.steps=5000", "--resume"))
    assert str(process.pid) in line
    logged = len(losses(out))
    wait_for_step(out, logged + 2, process)
    process.send_signal(signal.SIGHUP)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "stopped and saved" in output
    assert f" --resume --out '{out}'" in output
    steps = [step for step, _ in losses(out)]
    assert steps == list(range(1, len(steps) + 1))
    assert checkpoint_step(newest(out)) == steps[-1]
    assert not (out / "running.lock").exists()


def test_the_lock_of_a_process_that_is_gone_is_taken_over(kind: Kind, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = Process(*kind.words(out, "train.steps=5000"))
    wait_for_step(out, 5, process)
    process.kill()
    process.communicate()
    assert (out / "running.lock").exists()
    done = kind.run(out, "--resume", f"train.steps={len(losses(out)) + 1}")
    assert done.returncode == 0, done.stderr
    assert not (out / "running.lock").exists()


def test_the_lock_of_another_machine_is_refused_saying_what_to_do(kind: Kind, out: Path) -> None:
    lock = out / "running.lock"
    lock.write_text('{"host": "not-here", "pid": 1, "started": "1"}')
    line = refusal(kind.run(out, "train.steps=4", "--resume"))
    assert f"delete {lock}" in line


def test_a_run_folder_that_is_renamed_ends_the_run_in_one_line(kind: Kind, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = Process(*kind.words(out, "train.steps=5000"))
    wait_for_step(out, 5, process)
    out.rename(tmp_path / "renamed")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert len(errors.strip().splitlines()) == 1, errors
    assert "no longer there" in errors
    assert damage(newest(tmp_path / "renamed")) is None


def test_a_closed_stdout_ends_the_run_in_silence_and_saved(kind: Kind, tmp_path: Path) -> None:
    out = tmp_path / "piped"
    process = Process(*kind.words(out, "train.steps=200"))
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0
    assert errors == ""
    assert checkpoint_step(newest(out)) == len(losses(out)) < 200


def test_a_file_of_another_name_is_not_taken_for_a_checkpoint(kind: Kind, out: Path) -> None:
    (out / "checkpoints" / "step_best.pt").write_bytes(b"mine")
    done = kind.run(out, "train.steps=4", "--resume")
    assert done.returncode == 0, done.stderr
    assert "steps 4 to 4" in done.stdout
    assert (out / "checkpoints" / "step_best.pt").read_bytes() == b"mine"


def test_a_broken_line_of_the_metrics_loses_only_itself(kind: Kind, out: Path) -> None:
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text(lines[0] + lines[1][:20] + "\n" + "".join(lines[2:]))
    assert kind.run(out, "train.steps=4", "--resume").returncode == 0
    assert [step for step, _ in losses(out)] == [1, 3, 4]


def test_other_images_of_the_same_number_are_not_resumed_on(
    kind: Kind, out: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    moved = Kind(kind.name, data)
    if kind.name == "pretrain":
        write_photos(data, PHOTOS)
        photo = data / "004.jpg"
    else:
        generate_scenes(data, 10, seed=5)
        names = (data / "ImageSets/Segmentation/train.txt").read_text().split()
        photo = data / "JPEGImages" / f"{names[0]}.jpg"
    same = moved.run(out, "train.steps=4", "--resume")
    assert same.returncode == 0, same.stderr
    photo.write_bytes(photo.read_bytes() + b"more")
    assert "other images" in refusal(moved.run(out, "train.steps=5", "--resume"))


def test_a_run_of_the_other_task_is_not_resumed(kind: Kind, out: Path) -> None:
    name = "finetune" if kind.name == "pretrain" else "pretrain"
    line = refusal(Kind(name, kind.data).run(out, "--resume"))
    command = "pretrain" if kind.name == "pretrain" else "finetune-voc"
    assert f"cp2fast {command} --resume --out {out}" in line


def test_a_checkpoint_that_lacks_something_is_refused_in_one_line(kind: Kind, out: Path) -> None:
    state = torch.load(newest(out), weights_only=True)
    torch.save(state | {"optimizer": None}, newest(out))
    assert "does not fit the run" in refusal(kind.run(out, "train.steps=4", "--resume"))


def test_a_checkpoint_of_the_version_before_is_resumed(kind: Kind, out: Path) -> None:
    state = torch.load(newest(out), weights_only=True)
    old = {"kind", "model", "classes", "bad_images", "optimizer", "step", "images", "settings"}
    torch.save({name: state[name] for name in old & state.keys()}, newest(out))
    done = kind.run(out, "train.steps=4", "--resume")
    assert done.returncode == 0, done.stderr
    assert "steps 4 to 4" in done.stdout
