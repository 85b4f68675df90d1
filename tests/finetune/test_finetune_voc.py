"""Whole fine-tunings by the command line: what they leave, how they resume, what they refuse."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from cp2fast import load
from cp2fast.data.scenes import generate_scenes
from tests.command_line import Done, cp2fast, refusal
from tests.processes import Process, two_ranks

pytestmark = pytest.mark.slow

TINY = [
    "data.batch_size=3",
    "data.workers=1",
    "data.short_side=40",
    "model.size=32",
    "train.device=cpu",
    "train.log_every=1",
    "train.steps=9",
    "train.evaluate_every=4",
]
NETWORK = ["model.backbone=test_resnet", "model.head_channels=8"]


def finetune(out: Path, root: Path, *words: object) -> Done:
    return cp2fast("finetune-voc", *TINY, f"data.root={root}", *words, "--out", out)


def apart(out: Path, root: Path, *words: str) -> list[str]:
    """The words for a process of its own."""
    return ["finetune-voc", *TINY, *NETWORK, f"data.root={root}", *words, "--out", str(out)]


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if name in row]


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = max((out / "checkpoints").glob("*.pt"))
    return torch.load(newest, weights_only=True)["model"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images to train on and two to evaluate, of different sizes."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(root, 10, seed=5)
    return root


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    settings = ["model.size=32", "model.queue=16", "model.embedding=16", "data.batch_size=3"]
    words = [*NETWORK, *settings, "train.steps=2", "train.device=cpu", f"data.root={scenes}"]
    done = cp2fast("pretrain", *words, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """Nine steps, two an epoch, from random weights, never stopped."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = finetune(out, scenes, *NETWORK)
    assert done.returncode == 0, done.stderr
    return out


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
    assert all(row["time"]["evaluate"] > 0.5 for row in evaluations)
    assert losses[0]["lr"] == pytest.approx(0.003)
    assert 1e-4 < losses[-1]["lr"] < 0.001
    for name in ("preview", "curves", "confusion", "predictions"):
        with Image.open(finetuned / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert list((finetuned / "tensorboard").glob("events.*"))
    assert len(list((finetuned / "checkpoints").glob("*.pt"))) == 2


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
    process = Process(*each_step)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or len(rows(out, "loss")) < 6:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (out / "result.json").exists()
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


def test_the_demo_goes_from_pretraining_to_miou(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy = ["data.batch_size=4", "train.steps=1", "train.device=cpu"]
    all_masks = "data.train_split=train"
    first = cp2fast(
        "finetune-voc", *toy, all_masks, "data.scenes=10", "model.size=32", "--out", "first"
    )
    assert first.returncode == 0, first.stderr
    assert "random initial weights" in first.stdout
    done = cp2fast("pretrain", *toy, "data.scenes=10", "model.size=32", "model.queue=8")
    assert done.returncode == 0, done.stderr
    done = cp2fast("finetune-voc", *toy, all_masks, "data.scenes=10", "model.size=32")
    assert done.returncode == 0, done.stderr
    assert "initial weights runs/demo: matched" in done.stdout
    assert (tmp_path / "runs" / "finetune-demo" / "result.json").exists()


def test_weights_with_nothing_in_common_are_refused(scenes: Path, tmp_path: Path) -> None:
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    done = finetune(tmp_path / "run", scenes, *NETWORK, f"model.init={tmp_path / 'foreign.pth'}")
    assert "matched 0 of 1" in refusal(done)
    assert not (tmp_path / "run").exists()


def test_weights_partly_in_common_are_reported(
    scenes: Path, pretrained: Path, tmp_path: Path
) -> None:
    state = torch.load(max((pretrained / "checkpoints").glob("*.pt")), weights_only=True)["model"]
    backbone = {k.removeprefix("encoder_q."): v for k, v in state.items() if "encoder_q.b" in k}
    torch.save(backbone | {"extra": torch.zeros(1)}, tmp_path / "part.pth")
    done = finetune(
        tmp_path / "run", scenes, *NETWORK, f"model.init={tmp_path / 'part.pth'}", "train.steps=1"
    )
    assert done.returncode == 0, done.stderr
    assert "unexpected 1 (extra)" in done.stdout
    assert "decode_head.image_pool" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model.init=nothing/here"], "nothing/here"),
        (["data.train_split=trian"], "trian.txt"),
        (["data.classes=[a, b]"], "data.unknown=ignore"),
        (["data.batch_size=9"], "data.batch_size"),
        (["data.scale_low=3"], "data.scale_low"),
        (["train.lr=1e-6"], "train.lr_end"),
        (["evaluation.mode=hole"], "evaluation.mode"),
        (["data.rot=x"], "data.root"),
        (["--compare", "random", "--seeds", "one"], "--seeds"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    scenes: Path, tmp_path: Path, words: list[str], expected: str
) -> None:
    assert expected in refusal(finetune(tmp_path / "run", scenes, *NETWORK, *words))
    assert not (tmp_path / "run").exists()


def test_a_run_is_neither_overwritten_nor_resumed_as_another(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    assert "already holds a run" in refusal(finetune(undisturbed, scenes, *NETWORK))
    seed = finetune(undisturbed, scenes, *NETWORK, "train.seed=1", "--resume")
    assert "train.seed=1" in refusal(seed)
    nothing = finetune(tmp_path / "nothing", scenes, *NETWORK, "--resume")
    assert "no run to resume" in refusal(nothing)


def test_a_run_is_not_resumed_to_fewer_steps_than_it_has(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    before = (out / "config.yaml").read_bytes()
    fewer = refusal(finetune(out, scenes, *NETWORK, "train.steps=1", "--resume"))
    assert "train.steps to 9" in fewer
    assert (out / "config.yaml").read_bytes() == before


def test_another_data_set_is_not_resumed_on(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    root, out = tmp_path / "scenes", tmp_path / "run"
    shutil.copytree(scenes, root)
    shutil.copytree(undisturbed, out)
    (root / "classes.txt").write_text("a\nb\nc\nd\ne\nf\n")
    assert "other names" in refusal(finetune(out, root, *NETWORK, "--resume"))


def test_a_linear_head_on_a_frozen_backbone_with_averaged_weights(
    scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "linear"
    words = [*NETWORK, "model.head=linear", "train.freeze=backbone", "train.ema=0.9"]
    words += ["train.layer_decay=0.8", "train.steps=3"]
    done = finetune(out, scenes, *words)
    assert done.returncode == 0, done.stderr
    [last] = out.glob("checkpoints/step_000000003.pt")
    state = torch.load(last, weights_only=True)
    average, learning = state["model"], state["learning"]
    assert state["averaged_steps"] == 3
    name = "decode_head.conv_seg.weight"
    assert not torch.equal(average[name], learning[name])
    backbone = [name for name in average if name.startswith("backbone.")]
    assert all(torch.equal(average[name], learning[name]) for name in backbone)
    loaded = load(last).state_dict()  # what predict and export take
    assert torch.equal(loaded[name], average[name])
    assert finetune(out, scenes, *words[:-1], "train.steps=4", "--resume").returncode == 0
