"""Pretrainings, most of them by the command line: what they leave and what they refuse."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.model.cp2 import build_cp2
from cp2fast.pretrain.build import build
from cp2fast.pretrain.metrics import Metrics
from cp2fast.pretrain.task import PretrainTask
from cp2fast.run_folder import RunFolder, checkpoint_step, list_checkpoints
from cp2fast.train.processes import Processes
from tests.command_line import cp2fast, refusal
from tests.pretrain.runs import TINY, metrics, run, write_photos


def test_a_run_leaves_what_the_design_promises(undisturbed: Path) -> None:
    rows = metrics(undisturbed)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all(set(row) == {field.name for field in fields(Metrics)} for row in rows)
    assert all(np.isfinite([v for v in row.values() if v is not row["time"]]).all() for row in rows)
    assert all(sum(row["time"].values()) == pytest.approx(1, abs=0.001) for row in rows)
    assert all(row["data_wait"] == row["time"]["data"] for row in rows)
    assert rows[0]["time"]["start"] > 0
    assert all(row["time"]["start"] == 0 for row in rows[1:])
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


def task(folder: Path, photos: Path, *words: str) -> PretrainTask:
    settings = recipes.load(PretrainSettings, None, [*TINY, f"data.root={photos}", *words])
    return build(settings, RunFolder(folder), Processes.alone(torch.device("cpu")))


def test_both_encoders_start_from_the_weights_given(photos: Path, tmp_path: Path) -> None:
    model = task(tmp_path, photos).settings.model
    given = build_cp2(model, seed=5).encoder_q.state_dict()
    torch.save(given, tmp_path / "given.pt")
    begun = task(tmp_path, photos, f"model.init={tmp_path / 'given.pt'}")
    begun.initialise()
    for encoder in (begun.network.encoder_q, begun.network.encoder_k):
        for name, tensor in encoder.state_dict().items():
            assert torch.equal(tensor, given[name]), name


def test_a_queue_that_starts_with_keys_is_full_of_them_before_the_first_step(
    photos: Path, tmp_path: Path
) -> None:
    filled = task(tmp_path, photos, "model.queue_start=keys", "model.queue=30")
    before = filled.network.queue.clone()
    filled.prepare(0, lambda: None)
    assert not torch.isclose(filled.network.queue, before).all(dim=0).any()
    assert filled.network.queue_ptr.item() == 8 * 4 - 30


@pytest.mark.parametrize(("scaling", "peak"), [("none", 0.015), ("linear", 0.015 * 8 / 256)])
def test_the_learning_rate_is_scaled_by_the_samples_of_a_step_only_when_asked(
    photos: Path, tmp_path: Path, scaling: str, peak: float
) -> None:
    words = ["train.lr=0.015", "train.gradient_accumulation_steps=2", f"train.lr_scaling={scaling}"]
    assert task(tmp_path, photos, *words).learning_rate(0) == pytest.approx(peak)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["data.root=nowhere"], "nowhere"),
        (["data.batch_size=64"], "22 images"),
        (["model.size=40"], "model.size=40"),
        (["model.backbone=resnet81"], "model.backbone=resnet81"),
        (["--resume"], "holds no run"),
        (["data.source=ffcv"], "data.source=ffcv"),
        (
            ["model.backbone=vit_small_patch14_dinov2", "model.size=224", "train.resolution=96"],
            "14",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_left(
    photos: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    assert named in refusal(run(tmp_path / "run", photos, *words))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["r50_quick", "vits16_quick"])
def test_quick_tuning_wants_its_weights(photos: Path, tmp_path: Path, recipe: str) -> None:
    words = [f"data.root={photos}", "data.batch_size=4", "--out", tmp_path / "run"]
    message = refusal(cp2fast("pretrain", recipe, *words))
    assert "pretrain.pth" in message
    assert "model.init=FILE" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(photos: Path, tmp_path: Path) -> None:
    assert "train.device=cuda" in refusal(run(tmp_path / "run", photos, "train.device=cuda"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(run(tmp_path / "run", tmp_path / "empty"))


@pytest.mark.slow
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


@pytest.mark.slow
def test_too_many_broken_images_stop_the_run(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 30)
    for i in range(0, 30, 5):
        (photos / f"{i:03}.jpg").write_bytes(b"")
    out = tmp_path / "my run"
    message = refusal(run(out, photos, "train.steps=40"))
    assert "data.max_bad_fraction" in message
    assert "bad_images.txt" in message
    count = int(re.search(r"at least (\d+) of the 30 images", message)[1])
    assert 2 <= count <= 6

    fix = shlex.split(message.rpartition(" with cp2fast ")[2])
    done = cp2fast(*fix, "train.steps=3")
    assert done.returncode == 0, done.stderr
    assert len(metrics(out)) == 3


@pytest.mark.slow
def test_one_bad_image_in_a_small_folder_does_not_end_the_run(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 8)
    (photos / "notes.jpg").write_text("not an image")
    out = tmp_path / "run"
    done = run(out, photos, "train.steps=60")
    assert done.returncode == 0, done.stderr
    assert len((out / "bad_images.txt").read_text().splitlines()) == 1


@pytest.mark.slow
def test_independent_backgrounds_train(photos: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", photos, "train.steps=2", "data.background=independent")
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")) == 2


@pytest.mark.slow
def test_a_vision_transformer_with_the_other_head_trains(photos: Path, tmp_path: Path) -> None:
    words = ["model.backbone=test_vit", "model.head=fcn", "train.optimizer=adamw"]
    done = run(tmp_path / "run", photos, "train.steps=2", *words)
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "run")) == 2


@pytest.mark.slow
def test_checkpoints_go_by_the_clock_and_those_of_asked_epochs_stay(
    undisturbed: Path, photos: Path, tmp_path: Path
) -> None:
    """Five steps an epoch."""
    assert steps_of(undisturbed) == [12]
    each = ("train.checkpoint_epochs=1", "train.keep_last=1")
    assert run(tmp_path / "epochs", photos, "train.steps=12", *each).returncode == 0
    assert steps_of(tmp_path / "epochs") == [5, 10, 12]


def steps_of(out: Path) -> list[int]:
    return [checkpoint_step(path) for path in list_checkpoints(out / "checkpoints")]


@pytest.mark.slow
def test_what_takes_a_tenth_of_the_time_is_named_at_the_end(photos: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", photos, "train.steps=2")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("time: ")]
    shares = {name: int(share) for share, name in re.findall(r"(\d+)% (\w+)", line)}
    assert 98 <= sum(shares.values()) <= 102
    named = re.findall(r"^(\d+)% of the time is ", done.stdout, re.MULTILINE)
    others = [share for name, share in shares.items() if name != "step"]
    assert set(map(str, [share for share in others if share > 10])) <= set(named)
    assert all(int(share) >= 10 for share in named)
