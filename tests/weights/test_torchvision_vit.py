"""The two libraries' names for the tensors of a vision transformer."""

from __future__ import annotations

import timm
import torch
import torchvision

from cp2fast.weights.torchvision_vit import from_torchvision, is_torchvision_vit, to_torchvision


def test_the_names_are_those_of_the_libraries() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vit_b_16().state_dict()
        ours = timm.create_model("vit_base_patch16_224").state_dict()
    assert is_torchvision_vit(theirs)
    assert not is_torchvision_vit(ours)
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
    old = {"encoder.layers.encoder_layer_3.mlp.linear_2.bias": torch.zeros(1)}
    assert list(from_torchvision(old)) == ["blocks.3.mlp.fc2.bias"]
