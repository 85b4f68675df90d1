"""What a fine-tuning starts from: random, a run, foreign weights, a frozen backbone; its groups."""

import copy
from pathlib import Path

import pytest
import torch

from cp2fast import load
from cp2fast.config import FinetuneTrainSettings, ModelSettings
from cp2fast.finetune.start import parameter_groups, synchronised
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.train.learner import Learner
from tests.command_line import cp2fast, refusal
from tests.finetune.runs import NETWORK, finetune


@pytest.mark.slow
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


@pytest.mark.slow
def test_weights_with_nothing_in_common_are_refused(scenes: Path, tmp_path: Path) -> None:
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    done = finetune(tmp_path / "run", scenes, *NETWORK, f"model.init={tmp_path / 'foreign.pth'}")
    assert "matched 0 of 1" in refusal(done)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
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


@pytest.mark.slow
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


def network_of(backbone: str, head: str) -> Segmenter:
    return build_segmenter(ModelSettings(backbone=backbone, head=head, head_channels=8, size=32))


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "efficientnet_lite0", "resnet10t"])
def test_a_network_that_normalises_with_other_processes_is_otherwise_the_same(
    backbone: str,
) -> None:
    alone = network_of(backbone, "fcn").eval()
    together = synchronised(copy.deepcopy(alone))
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in together.modules())
    assert list(together.state_dict()) == list(alone.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(together(images), alone(images))


def scales(network: Segmenter, decay: float) -> dict[str, float]:
    """By name of the parameter."""
    by_id = {
        id(parameter): group["lr_scale"]
        for group in parameter_groups(network, decay)
        for parameter in group["params"]
    }
    return {name: by_id[id(parameter)] for name, parameter in network.named_parameters()}


@pytest.mark.parametrize(
    ("backbone", "from_stem_to_last_block"),
    [
        (
            "vit_tiny_patch16_224",
            ["pos_embed", *(f"blocks.{block}.attn.qkv.weight" for block in range(12))],
        ),
        ("test_resnet", ["conv1.0.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"]),
    ],
)
def test_each_layer_learns_slower_than_the_one_above_it(
    backbone: str, from_stem_to_last_block: list[str]
) -> None:
    found = scales(network_of(backbone, "linear"), 0.5)
    order = [found[f"backbone.{name}"] for name in from_stem_to_last_block]
    assert order == sorted(set(order))
    assert order[-1] == 0.5
    assert found["decode_head.conv_seg.weight"] == 1
    if backbone.startswith("vit"):
        assert order == [0.5 ** (13 - layer) for layer in range(13)]


def test_the_schedule_moves_all_layers_alike() -> None:
    network = network_of("vit_tiny_patch16_224", "linear")
    settings = FinetuneTrainSettings(device="cpu")
    groups = parameter_groups(network, 0.9)
    learner = Learner(network, groups, lambda *_: None, settings, torch.device("cpu"))
    learner.set_learning_rate(0.1)
    rates = [group["lr"] for group in learner.optimizer.param_groups]
    assert sorted(rates) == pytest.approx([0.1 * 0.9**above for above in range(13, -1, -1)])


def test_a_frozen_backbone_is_in_no_group_and_keeps_its_statistics() -> None:
    network = network_of("test_resnet", "linear")
    network.freeze_backbone()
    before = {name: t.clone() for name, t in network.backbone.state_dict().items()}
    learned = parameter_groups(network, 1.0)[0]["params"]
    head = list(network.decode_head.parameters())
    assert {id(parameter) for parameter in learned} == {id(parameter) for parameter in head}
    network.train()
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    after = network.backbone.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert network.decode_head.training
