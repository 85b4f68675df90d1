"""Whole runs through the command line: what they leave, how they resume, what they refuse."""

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cp2fast.cli import main
from cp2fast.data.pack import pack
from cp2fast.data.packed_jpeg import JpegSettings
from cp2fast.train.metrics import Metrics

TINY = [
    "model.backbone=test_resnet",
    "model.head_channels=16",
    "model.size=32",
    "model.queue=64",
    "model.queue_start=random",
    "data.batch_size=4",
    "data.workers=1",
    "train.device=cpu",
    "train.log_every=1",
]


def write_photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    for i in range(count):
        height, width = random.integers(20, 90, 2)
        coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:03}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 22)


def command(out: Path, photos: Path, *words: str) -> list[str]:
    options = [word for word in words if word.startswith("--")]
    settings = [word for word in words if not word.startswith("--")]
    arguments = [*TINY, f"data.root={photos}", *settings, "--out", str(out), *options]
    return [sys.executable, "-m", "cp2fast", "pretrain", *arguments]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(out: Path, photos: Path, *words: str) -> Done:
    return run_here(command(out, photos, *words)[3:])


def run_here(arguments: list[str]) -> Done:
    """The command in this process, which saves the seconds that importing torch takes."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(sys, "argv", ["cp2fast", *arguments])
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def run_apart(out: Path, photos: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with that process's number of threads."""
    return subprocess.run(command(out, photos, *words), capture_output=True, text=True, check=False)


def refusal(done: Done) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[tuple[float, ...]]:
    names = ("step", "loss", "loss_instance", "loss_dense", "accuracy_instance", "similarity_gap")
    return [tuple(row[name] for name in names) for row in metrics(out)]


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or len(metrics_lines(out)) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics_lines(out: Path) -> Sequence[str]:
    return (out / "metrics.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps, five an epoch, never stopped."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = run_apart(out, photos, "train.steps=12")
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_leaves_what_the_design_promises(undisturbed: Path) -> None:
    rows = metrics(undisturbed)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all(set(row) == {field.name for field in fields(Metrics)} for row in rows)
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert rows[4]["epoch"] == 1.0
    assert [rows[0]["queue_fill"], rows[-1]["queue_fill"]] == [4 / 64, 48 / 64]
    settings = yaml.safe_load((undisturbed / "config.yaml").read_text())
    assert settings["model"]["size"] == 32
    assert settings["model"]["temperature"] == 0.2
    for picture in ("preview.png", "curves.png"):
        with Image.open(undisturbed / picture) as image:
            assert min(image.size) > 100
    assert list((undisturbed / "tensorboard").glob("events.*"))
    assert not (undisturbed / "bad_images.txt").exists()
    newest = sorted((undisturbed / "checkpoints").glob("*.pt"))[-1]
    assert torch.load(newest, weights_only=True)["step"] == 12


def test_the_same_command_gives_the_same_losses(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    assert run_apart(tmp_path / "again", photos, "train.steps=12").returncode == 0
    assert losses(tmp_path / "again") == losses(undisturbed)


@pytest.fixture(scope="module")
def beton(photos: Path) -> Path:
    """The same files in FFCV's format."""
    out = photos.with_name("photos.beton")
    settings = JpegSettings(max_side=None, quality=90, keep_bytes=True, max_pixels=10_000)
    pack(photos, out, settings, shard_size=1, workers=1, progress=lambda done, total: None)
    return out


@pytest.mark.parametrize("source", ["dali", "torch", "ffcv"])
def test_a_killed_run_resumes_mid_epoch_and_repeats_the_undisturbed_one_bit_for_bit(
    undisturbed: Path, photos: Path, beton: Path, tmp_path: Path, source: str
) -> None:
    out = tmp_path / "killed"
    root = beton if source == "ffcv" else photos
    words = ("train.steps=12", "train.checkpoint_minutes=1e-9", f"data.source={source}")
    process = subprocess.Popen(
        command(out, root, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(out, 7, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = int(sorted((out / "checkpoints").glob("*.pt"))[-1].stem.removeprefix("step_"))
    assert 6 <= step < 12
    done = run_apart(out, root, *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"steps {step + 1} to 12" in done.stdout
    assert losses(out) == losses(undisturbed)


def test_a_run_killed_before_its_first_checkpoint_resumes_from_its_start(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "killed")
    shutil.rmtree(out / "checkpoints")
    (out / "checkpoints").mkdir()
    done = run_apart(out, photos, "train.steps=12", "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(undisturbed)


def test_a_run_stopped_before_anything_was_logged_says_so(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train.steps=5000", "train.log_every=5000")
    process = subprocess.Popen(
        command(out, photos, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (out / "preview.png").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "no step was logged yet" in output
    assert list((out / "checkpoints").glob("*.pt"))


def test_ctrl_c_saves_says_how_to_go_on_and_exits_cleanly(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        command(out, photos, "train.steps=12"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    wait_for_step(out, 2, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"cp2fast pretrain --resume --out {out}" in output
    resumed = subprocess.run(
        [sys.executable, "-m", "cp2fast", "pretrain", "--resume", "--out", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
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


def test_resuming_on_other_images_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "other", 9)
    assert "9 images" in refusal(run(undisturbed, other, "train.steps=20", "--resume"))


def test_weights_of_another_architecture_are_refused_listing_what_differs(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    message = refusal(
        run(tmp_path / "run", photos, f"model.init={undisturbed}", "model.head_channels=24")
    )
    assert "decode_head" in message
    assert "16" in message
    assert "24" in message
    assert not (tmp_path / "run").exists()


def test_weights_of_the_same_architecture_are_taken_and_counted(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    done = run(tmp_path / "run", photos, f"model.init={undisturbed}", "train.steps=1")
    assert done.returncode == 0, done.stderr
    assert "matched" in done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["data.root=nowhere"], "nowhere"),
        (["data.batch_size=64"], "22 images"),
        (["model.size=40"], "model.size=40"),
        (["model.backbone=resnet81"], "model.backbone=resnet81"),
        (["--resume"], "holds no run"),
        (["data.source=ffcv"], "data.source=ffcv"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_left(
    photos: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    assert named in refusal(run(tmp_path / "run", photos, *words))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(photos: Path, tmp_path: Path) -> None:
    assert "train.device=cuda" in refusal(run(tmp_path / "run", photos, "train.device=cuda"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(run(tmp_path / "run", tmp_path / "empty"))


@pytest.mark.parametrize("source", ["dali", "torch"])
def test_broken_images_are_listed_and_the_run_goes_on(tmp_path: Path, source: str) -> None:
    photos = write_photos(tmp_path / "photos", 22)
    (photos / "005.jpg").write_bytes(b"")
    (photos / "011.jpg").write_bytes((photos / "012.jpg").read_bytes()[:-300])
    (photos / "017.jpg").write_text("not an image")
    out = tmp_path / "run"
    done = run(out, photos, "train.steps=12", f"data.source={source}", "data.max_bad_fraction=1")
    assert done.returncode == 0, done.stderr
    assert len(metrics(out)) == 12
    listed = (out / "bad_images.txt").read_text()
    assert [name for name in ("005.jpg", "011.jpg", "017.jpg") if name in listed]
    assert len(listed.splitlines()) == 3


def test_too_many_broken_images_stop_the_run(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 30)
    for i in range(0, 30, 5):
        (photos / f"{i:03}.jpg").write_bytes(b"")
    message = refusal(run(tmp_path / "run", photos, "train.steps=40"))
    assert "data.max_bad_fraction" in message
    assert "bad_images.txt" in message


def test_independent_backgrounds_train(photos: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", photos, "train.steps=2", "data.background=independent")
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")) == 2


def test_a_vision_transformer_with_the_other_head_trains(photos: Path, tmp_path: Path) -> None:
    words = ["model.backbone=vit_tiny_patch16_224", "model.head=fcn", "train.optimizer=adamw"]
    done = run(tmp_path / "run", photos, "train.steps=2", *words)
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")) == 2
