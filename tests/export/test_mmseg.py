"""Exports under mmseg's names: those of the original's own checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cp2fast.errors import UserError
from cp2fast.export.mmseg import export_mmseg
from cp2fast.model.segmenter import build_segmenter
from cp2fast.model.trained import Trained
from cp2fast.model.weights import load_weights
from tests.export.trained_networks import CLASSES, finetuned, pretrained


def exported_file(trained: Trained, path: Path) -> dict[str, Any]:
    exported = export_mmseg(trained, path.name)
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("keys", "settings"),
    [
        ("r50_aspp", {"backbone": "resnet50", "head": "aspp"}),
        ("r50_fcn", {"backbone": "resnet50", "head": "fcn"}),
        ("vits_aspp", {"backbone": "vit_small_patch16_224", "head": "aspp"}),
        ("finetune_r50_aspp", {"backbone": "resnet50", "head": "aspp"}),
    ],
)
def test_the_names_are_those_of_the_original(
    tmp_path: Path, golden: Path, keys: str, settings: dict[str, str]
) -> None:
    kind = finetuned if keys.startswith("finetune") else pretrained
    content = exported_file(kind(tmp_path, **settings), tmp_path / "w.pth")
    lines = (golden / f"state_dict_keys_{keys}.txt").read_text().splitlines()
    names = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    query = "" if kind is finetuned else "module.encoder_q."
    expected = {name.removeprefix(query) for name in names if name.startswith(query)}
    assert set(content["state_dict"]) == expected
    assert content["meta"]["CLASSES"] == (CLASSES if kind is finetuned else [])


def test_the_file_goes_into_another_network(tmp_path: Path) -> None:
    trained = finetuned(tmp_path)
    exported_file(trained, tmp_path / "w.pth")
    network = build_segmenter(trained.model, num_classes=len(CLASSES)).eval()
    load_weights(network, tmp_path / "w.pth")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), trained.network(images))


def test_the_configuration_is_python_with_the_sizes_of_the_network(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(export_mmseg(finetuned(tmp_path), "w.pth").usage, names)  # noqa: S102
    head, backbone = names["model"]["decode_head"], names["model"]["backbone"]
    assert (head["in_channels"], head["channels"], head["num_classes"]) == (512, 8, 3)
    assert (backbone["depth"], backbone["dilations"]) == (18, (1, 1, 1, 2))


def test_a_backbone_that_mmseg_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mmseg's ResNet is resnet18, 34, 50, 101 or 152, not"):
        export_mmseg(pretrained(tmp_path, backbone="resnet26"), "w.pth")
