"""What is refused before a run begins or goes on."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from cp2fast.config import FinetuneSettings
from cp2fast.errors import UserError
from cp2fast.finetune.build import build
from cp2fast.run_folder import RunFolder
from cp2fast.train.distributed import Ranks
from cp2fast.train.processes import Processes
from tests.command_line import refusal
from tests.finetune.runs import NETWORK, finetune

pytestmark = pytest.mark.slow


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


def test_weights_that_are_not_there_are_refused_before_all_masks_are_read(
    scenes: Path, tmp_path: Path
) -> None:
    done = finetune(tmp_path / "run", scenes, *NETWORK, "model.init=runs/nothere")
    assert "runs/nothere" in refusal(done)
    assert "images to learn from" not in done.stdout


@pytest.mark.parametrize("world_size", [1, 2])
def test_one_crop_per_process_is_refused_with_aspp_as_a_cpu_normalises_it_alone(
    scenes: Path, tmp_path: Path, world_size: int
) -> None:
    settings = FinetuneSettings().with_values("data", root=scenes, batch_size=1)
    alone = Processes.alone(torch.device("cpu"))
    processes = replace(alone, ranks=Ranks(world_size=world_size))
    with pytest.raises(UserError, match=r"use data\.batch_size=2"):
        build(settings, RunFolder(tmp_path / "run"), processes)


def test_a_run_is_neither_overwritten_nor_resumed_as_another(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    assert "already holds a run" in refusal(finetune(undisturbed, scenes, *NETWORK))
    seed = finetune(undisturbed, scenes, *NETWORK, "train.seed=1", "--resume")
    assert "train.seed=1" in refusal(seed)
    nothing = finetune(tmp_path / "nothing", scenes, *NETWORK, "--resume")
    assert "no run to resume" in refusal(nothing)


@pytest.mark.parametrize(
    "changed",
    [
        "data.short_side=48",
        "data.scale_low=0.6",
        "data.scale_high=1.5",
        "data.val_split=train",
        "data.unknown=ignore",
        "data.nearest=on",
        "train.class_weight=auto",
    ],
)
def test_a_run_is_not_resumed_with_other_crops_evaluation_or_loss(
    undisturbed: Path, scenes: Path, changed: str
) -> None:
    assert changed in refusal(finetune(undisturbed, scenes, *NETWORK, changed, "--resume"))


def test_a_run_that_needs_less_memory_is_resumed_with_smaller_batches_as_large_together(
    scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert finetune(out, scenes, *NETWORK, "data.batch_size=4", "train.steps=1").returncode == 0
    words = ["data.batch_size=2", "train.steps=2", "--resume"]
    assert "2 samples a step" in refusal(finetune(out, scenes, *NETWORK, *words))
    done = finetune(out, scenes, *NETWORK, "train.gradient_accumulation_steps=2", *words)
    assert done.returncode == 0, done.stderr
    assert "steps 2 to 2" in done.stdout


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


def evaluate_on_one(root: Path) -> None:
    val = root / "ImageSets" / "Segmentation" / "val.txt"
    val.write_text(val.read_text().splitlines()[0])


def ignore_all(root: Path) -> None:
    for mask in (root / "SegmentationClass").iterdir():
        with Image.open(mask) as labels:
            ignored = Image.new("P", labels.size, 255)
        ignored.save(mask)


@pytest.mark.parametrize("change", [evaluate_on_one, ignore_all])
def test_a_run_is_not_resumed_on_other_masks_or_evaluated_on_other_images(
    undisturbed: Path, scenes: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root, out = tmp_path / "scenes", tmp_path / "run"
    shutil.copytree(scenes, root)
    shutil.copytree(undisturbed, out)
    longer = [*NETWORK, "train.steps=10", "--resume"]
    change(root)
    assert "other masks, or other images to evaluate on" in refusal(finetune(out, root, *longer))


def test_a_run_of_an_earlier_version_is_resumed_without_knowing_its_masks(
    undisturbed: Path, scenes: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "run")
    for checkpoint in (out / "checkpoints").iterdir():
        state = torch.load(checkpoint, weights_only=True)
        del state["labels_digest"]
        torch.save(state, checkpoint)
    assert "is complete" in finetune(out, scenes, *NETWORK, "--resume").stdout
