"""What learns, and how fast: the head fastest, the stem of the backbone slowest."""

from __future__ import annotations

import pytest
import torch

from cp2fast.config import FinetuneTrainSettings, ModelSettings
from cp2fast.finetune.groups import parameter_groups
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.train.learner import Learner


def network_of(backbone: str, head: str) -> Segmenter:
    return build_segmenter(ModelSettings(backbone=backbone, head=head, head_channels=8, size=32))


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
