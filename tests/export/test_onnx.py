"""Exports to ONNX, run by onnxruntime on images of other sizes than the traced ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cp2fast.errors import UserError
from cp2fast.export.onnx import export_onnx
from cp2fast.model.backbone import build_backbone, channels
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter
from tests.export.trained_networks import around, pretrained, trained_state


def shallow_transformer() -> Segmenter:
    backbone = build_backbone("vit_tiny_patch16_224", 64, depth=1)
    return Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))


@pytest.mark.slow
def test_onnxruntime_gives_the_same_logits_for_images_of_any_size(tmp_path: Path) -> None:
    network = shallow_transformer()
    trained_state(network)
    trained = around(network)
    trained.facts["kind"] = "finetune"
    exported = export_onnx(trained, "w.onnx")
    path = tmp_path / "w.onnx"
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance

    session = onnxruntime.InferenceSession(path)
    for shape in ((1, 3, 64, 64), (3, 3, 32, 80), (2, 3, 70, 81)):
        images = torch.randn(shape)
        [theirs] = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(theirs, network(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    needs = rf"--to onnx needs {name}: pip install onnx onnxscript onnxruntime"
    with pytest.raises(UserError, match=needs):
        export_onnx(pretrained(tmp_path), "w.onnx")
