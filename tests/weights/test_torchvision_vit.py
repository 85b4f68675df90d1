"""The two libraries' names for the tensors of a vision transformer."""

from __future__ import annotations

import timm
import torch
import torchvision
from torch import Tensor

from cp2fast.weights.foreign import TORCHVISION
from cp2fast.weights.names import to_timm
from cp2fast.weights.torchvision_vit import to_torchvision


def from_torchvision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return to_timm(tensors, TORCHVISION)


def test_the_names_are_those_of_the_libraries() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vit_b_16().state_dict()
        ours = timm.create_model("vit_base_patch16_224").state_dict()
    classifier = {"heads.head.weight", "heads.head.bias", "head.weight", "head.bias"}
    renamed = {name: tensor.shape for name, tensor in from_torchvision(theirs).items()}
    expected = {name: tensor.shape for name, tensor in ours.items()}
    assert {item for item in renamed.items() ^ expected.items() if item[0] not in classifier} == (
        set()
    )
    back = to_torchvision(from_torchvision(theirs))
    assert set(back) == set(theirs)


def test_the_names_of_older_files_are_read() -> None:
    """torchvision 0.12 called the layers of the MLP by name, and its weights are still about."""
    old = dict.fromkeys(
        ["class_token", "encoder.layers.encoder_layer_3.mlp.linear_2.bias"], torch.zeros(1)
    )
    assert list(from_torchvision(old)) == ["cls_token", "blocks.3.mlp.fc2.bias"]
