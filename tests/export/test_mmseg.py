"""Exports under mmseg's names: those of the original's own checkpoints."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.export.mmseg import export_mmseg
from cp2fast.model.segmenter import build_segmenter
from cp2fast.model.weights import load_weights
from tests.export.trained_networks import CLASSES, around, finetuned, pretrained


@pytest.mark.parametrize(
    ("keys", "backbone", "head"),
    [
        ("r50_aspp", "resnet50", "aspp"),
        ("r50_fcn", "resnet50", "fcn"),
        ("vits_aspp", "vit_small_patch16_224", "aspp"),
        ("finetune_r50_aspp", "resnet50", "aspp"),
    ],
)
def test_names_and_shapes_are_those_of_the_original(
    golden: Path, keys: str, backbone: str, head: str
) -> None:
    lines = (golden / f"state_dict_keys_{keys}.txt").read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines if not line.startswith("#")]
    query = "" if keys.startswith("finetune") else "module.encoder_q."
    expected = {n.removeprefix(query): shape for n, shape in rows if n.startswith(query)}

    settings = {"backbone": backbone, "head": head, "head_channels": 512, "embedding": 128}
    with torch.device("meta"):
        network = build_segmenter(ModelSettings(**settings))
    trained = around(network, **settings)
    trained.facts["kind"] = "finetune" if keys.startswith("finetune") else "pretrain"
    content = torch.load(io.BytesIO(export_mmseg(trained, "w.pth").content), weights_only=True)
    assert {n: str(tuple(t.shape)) for n, t in content["state_dict"].items()} == expected


def test_the_file_goes_into_another_network(tmp_path: Path) -> None:
    trained, path = finetuned(tmp_path), tmp_path / "w.pth"
    exported = export_mmseg(trained, path.name)
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    assert torch.load(path, weights_only=True)["meta"]["CLASSES"] == CLASSES
    network = build_segmenter(trained.model, num_classes=len(CLASSES)).eval()
    load_weights(network, path)
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
