"""What a fine-tuning starts from: random, a run, foreign weights, a frozen backbone."""

from pathlib import Path

import pytest
import torch

from cp2fast import load
from tests.command_line import cp2fast, refusal
from tests.finetune.runs import NETWORK, finetune

pytestmark = pytest.mark.slow


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
