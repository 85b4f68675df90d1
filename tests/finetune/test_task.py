"""Fine-tunings, most of them by the command line: what they leave, how they stop and go on."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn.functional import cross_entropy, interpolate
from torchmetrics.classification import MulticlassJaccardIndex

from cp2fast import load, recipes
from cp2fast.config import FinetuneSettings
from cp2fast.finetune.build import build
from cp2fast.finetune.loss import balanced_weights, dice_loss
from cp2fast.finetune.start import build_network
from cp2fast.finetune.task import FinetuneTask
from cp2fast.labels.survey import survey
from cp2fast.run_folder import RunFolder
from cp2fast.train.checkpoint import load_checkpoint
from cp2fast.train.processes import Processes
from tests.command_line import cp2fast
from tests.finetune.runs import NETWORK, TINY, apart, finetune, rows, weights
from tests.processes import Process, signalled, two_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory, scenes: Path, pretrained: Path) -> Path:
    out = tmp_path_factory.mktemp("finetuned") / "run"
    done = finetune(out, scenes, f"model.init={pretrained}", "data.short_side=80", "model.size=64")
    assert done.returncode == 0, done.stderr
    assert "missing 0, unexpected 0" in done.stdout
    assert "classifier new" in done.stdout
    assert "mean IoU" in done.stdout
    return out


def test_a_run_leaves_what_the_design_promises(finetuned: Path) -> None:
    result = json.loads((finetuned / "result.json").read_text())
    assert 0 <= result["miou"] <= 1
    assert 0 <= result["pixel_accuracy"] <= 1
    assert result["miou"] <= result["dice"] <= 1
    assert 0 <= result["boundary_f"] <= 1
    assert list(result["per_class_boundary_f"]) == list(result["per_class_dice"])
    assert list(result["per_class"])[:2] == ["background", "striped disc"]
    assert result["settings"]["model"]["size"] == 64
    losses, evaluations = rows(finetuned, "loss"), rows(finetuned, "miou")
    assert [row["step"] for row in losses] == list(range(1, 10))
    assert {"lr", "images_per_second", "data_wait"} <= losses[0].keys()
    assert [row["step"] for row in evaluations] == [4, 8, 9]
    assert evaluations[-1]["miou"] == result["miou"]
    best = max(evaluations, key=lambda row: (row["miou"], row["step"]))
    assert result["best"] == {"miou": best["miou"], "step": best["step"]}
    kept = torch.load(finetuned / "checkpoints" / "best.pt", weights_only=True)
    assert kept["step"] == best["step"]
    assert all(
        sum(row["time"].values()) == pytest.approx(1, abs=0.001) for row in losses + evaluations
    )
    assert all(row["time"]["evaluate"] > 0 for row in evaluations)
    assert [row["lr"] for row in losses] == pytest.approx(
        [(0.003 - 1e-4) * (1 - step / 9) ** 0.9 + 1e-4 for step in range(9)]
    )
    for name in ("preview", "curves", "confusion", "predictions"):
        with Image.open(finetuned / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert list((finetuned / "tensorboard").glob("events.*"))
    assert len(list((finetuned / "checkpoints").glob("*.pt"))) == 2


def task(folder: Path, scenes: Path, *words: str) -> FinetuneTask:
    words = (*TINY, *NETWORK, f"data.root={scenes}", *words)
    settings = recipes.load(FinetuneSettings, None, words)
    return build(settings, RunFolder(folder), Processes.alone(torch.device("cpu")))


@pytest.mark.parametrize(
    "word", ["loss_mean=valid", "loss_mean=all", "class_weight=auto", "dice_weight=0.5"]
)
def test_the_loss_is_torchs_of_the_crops_under_these_settings(
    scenes: Path, tmp_path: Path, word: str
) -> None:
    begun = task(tmp_path, scenes, f"train.{word}")
    begun.initialise()
    begun.network.eval()
    [batch] = (loaded.ready() for loaded in begun.batches(0, 1))
    loss = begun.learner.forward(begun.network, batch, 0, 0).loss

    labels = batch.labels.long()
    logits = interpolate(begun.network(batch.images), labels.shape[1:], mode="bilinear")
    pixels = survey(begun.data).train[:6].tolist()
    weight = torch.tensor(balanced_weights(pixels)) if word == "class_weight=auto" else None
    expected = cross_entropy(logits, labels, weight, ignore_index=255)
    if word == "loss_mean=all":
        expected = expected * (labels != 255).float().mean()
    if word == "dice_weight=0.5":
        expected = expected + 0.5 * dice_loss(logits, labels)
    torch.testing.assert_close(loss, expected)


def test_the_average_begins_with_the_weights_given(scenes: Path, tmp_path: Path) -> None:
    model = task(tmp_path, scenes).settings.model
    given = build_network(model, 6, seed=7).backbone.state_dict()
    torch.save({f"backbone.{name}": t for name, t in given.items()}, tmp_path / "given.pt")
    begun = task(tmp_path, scenes, "train.ema=0.9", f"model.init={tmp_path / 'given.pt'}")
    begun.initialise()
    averaged = begun.average.network.backbone.state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in averaged.items())


def test_the_network_is_that_of_the_initial_run(finetuned: Path, pretrained: Path) -> None:
    model = yaml.safe_load((finetuned / "config.yaml").read_text())["model"]
    assert (model["backbone"], model["head_channels"]) == ("test_resnet", 8)
    assert model["init"] == str(pretrained)


def test_the_checkpoint_is_a_network_with_its_classes(finetuned: Path) -> None:
    network = load(finetuned)
    assert network.classes[1] == "striped disc"
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 6, 2, 2)


def test_the_miou_is_what_torchmetrics_makes_of_the_predicted_masks(
    finetuned: Path, scenes: Path, tmp_path: Path
) -> None:
    names = (scenes / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    photos = [scenes / "JPEGImages" / f"{name}.jpg" for name in names]
    done = cp2fast("predict", finetuned, *photos, "--out", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    assert "checkpoints/best.pt: the best of the run" in done.stdout
    metric = MulticlassJaccardIndex(6, ignore_index=255)
    for name in names:
        with (
            Image.open(tmp_path / "masks" / f"{name}.png") as predicted,
            Image.open(scenes / "SegmentationClass" / f"{name}.png") as labels,
        ):
            assert predicted.size == labels.size
            metric.update(*(torch.from_numpy(np.array(mask)) for mask in (predicted, labels)))
    result = json.loads((finetuned / "result.json").read_text())
    assert metric.compute().item() == pytest.approx(result["best"]["miou"], abs=1e-6)


def test_a_killed_run_goes_on_bit_for_bit(undisturbed: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    each_step = apart(out, scenes, "train.checkpoint_minutes=1e-9")
    assert signalled(signal.SIGKILL, 6, *each_step).wait() == -signal.SIGKILL
    done = finetune(out, scenes, *NETWORK, "--resume")
    assert done.returncode == 0, done.stderr
    for name in ("loss", "miou"):
        assert [(row["step"], row[name]) for row in rows(out, name)] == [
            (row["step"], row[name]) for row in rows(undisturbed, name)
        ]
    before, after = weights(undisturbed), weights(out)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_interrupted_run_saves_and_says_how_to_go_on(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "interrupted"
    process = Process(*apart(out, scenes, "train.steps=100000"))
    while not (out / "metrics.jsonl").exists() or not rows(out, "loss"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert f"--resume --out {out}" in stdout
    steps = [row["step"] for row in rows(out, "loss")]
    assert (out / "checkpoints" / f"step_{steps[-1]:09}.pt").exists()


def test_a_run_without_progress_stops_with_all_that_a_complete_one_leaves(
    scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "patient"
    words = [*NETWORK, "train.steps=40", "train.evaluate_every=1", "train.patience=2"]
    words += ["train.lr=1e-30", "train.lr_end=0", "train.class_weight=auto"]
    words += ["train.dice_weight=0.5", "evaluation.boundary=0"]
    done = finetune(out, scenes, *words)
    assert done.returncode == 0, done.stderr
    steps = [row["step"] for row in rows(out, "miou")]
    best = max(rows(out, "miou"), key=lambda row: row["miou"])  # the first of equals
    assert steps == list(range(1, best["step"] + 3))
    assert f"stopped at step {steps[-1]}: no better mIoU in 2 evaluations" in done.stdout
    result = json.loads((out / "result.json").read_text())
    assert result["step"] == steps[-1]
    assert result["boundary_f"] is None
    assert (out / "checkpoints" / f"step_{steps[-1]:09}.pt").exists()
    assert "is complete" in finetune(out, scenes, *words, "--resume").stdout
    longer = [word for word in words if "patience" not in word] + ["train.patience=3"]
    assert finetune(out, scenes, *longer, "--resume").returncode == 0
    assert rows(out, "miou")[-1]["step"] > steps[-1]


def test_class_weights_are_taken_from_a_checkpoint_of_an_earlier_version(
    undisturbed: Path, tmp_path: Path
) -> None:
    settings = recipes.load(FinetuneSettings, str(undisturbed / "config.yaml"), [])
    task = build(settings, RunFolder(tmp_path), Processes.alone(torch.device("cpu")))
    state = load_checkpoint(max((undisturbed / "checkpoints").glob("step_*.pt")))
    listed = [1.0 + number for number in range(len(state["classes"]))]
    task.load_state_dict(state | {"class_weight": listed})
    assert task.state_dict()["class_weight"].tolist() == listed


def test_a_complete_run_is_not_run_again(undisturbed: Path, scenes: Path) -> None:
    before = (undisturbed / "result.json").read_bytes()
    done = finetune(undisturbed, scenes, *NETWORK, "--resume")
    assert done.returncode == 0, done.stderr
    assert "is complete" in done.stdout
    assert (undisturbed / "result.json").read_bytes() == before


def test_a_run_killed_in_its_last_evaluation_evaluates_again(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    (out / "result.json").unlink()
    assert finetune(out, scenes, *NETWORK, "--resume").returncode == 0
    one, other = (json.loads((run / "result.json").read_text()) for run in (out, undisturbed))
    assert one["per_class"] == other["per_class"]


def test_a_longer_run_that_ends_in_its_last_evaluation_does_not_keep_the_result_of_the_shorter(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "run")
    root = shutil.copytree(scenes, tmp_path / "scenes")
    longer = [*NETWORK, "train.steps=10", "--resume"]
    val = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    photo = root / "JPEGImages" / f"{val[-1]}.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(bytes(len(whole)))  # read in evaluations alone
    assert finetune(out, root, *longer).returncode == 2
    assert json.loads((out / "result.json").read_text())["step"] == 9
    photo.write_bytes(whole)
    assert finetune(out, root, *longer).returncode == 0
    assert json.loads((out / "result.json").read_text())["step"] == 10
    assert [row["step"] for row in rows(out, "miou")] == [4, 8, 9, 10]
    assert "is complete" in finetune(out, root, *longer).stdout


def test_two_processes_evaluate_every_image_once(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    ranks = two_ranks(*apart(out, scenes, "train.steps=2", "data.batch_size=2"))
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    two = json.loads((out / "result.json").read_text())
    (out / "result.json").unlink()
    assert finetune(out, scenes, *NETWORK, "train.steps=2", "data.batch_size=2", "--resume")[0] == 0
    one = json.loads((out / "result.json").read_text())
    assert two["per_class"] == one["per_class"]
    assert two["pixel_accuracy"] == one["pixel_accuracy"]
