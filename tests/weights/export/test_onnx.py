"""Exports to ONNX, run by onnxruntime on images of other sizes than the traced ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, levels
from cp2fast.model.head import FcnHead, SegformerHead
from cp2fast.model.segmenter import Segmenter
from cp2fast.weights.export.onnx import export_onnx
from tests.weights.export.trained_networks import around, pretrained, trained_state


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
            whole = [-(-side // 16) * 16 for side in shape[2:]]  # as many pixels as cells cover
            ours = F.interpolate(network(images), whole, mode="bilinear")
            ours = ours[..., : shape[2], : shape[3]]
            np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_check_finds_a_model_that_takes_images_of_one_shape_alone(tmp_path: Path) -> None:
    exported = export_onnx(pretrained(tmp_path, size=96), "w.onnx")
    for axis, length in ((0, 2), (2, 96), (3, 96)):
        model = onnx.load_from_string(exported.content)
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
        onnx.save(model, tmp_path / "w.onnx")
        with pytest.raises(InvalidArgument, match=f"index: {axis}"):
            exported.check(tmp_path / "w.onnx")


@pytest.mark.slow
def test_a_swin_transformer_keeps_the_size_it_was_trained_at(tmp_path: Path) -> None:
    options = {"depths": (2, 1), "num_heads": (1, 2), "embed_dim": 24}
    backbone = build_backbone("swin_tiny_patch4_window7_224", 56, pyramid=True, **options)
    maps = [level.channels for level in levels(backbone)]
    network = Segmenter(backbone, SegformerHead(maps, 8, 4, 3))
    trained_state(network)
    trained = around(network, size=56)
    trained.facts["kind"] = "finetune"
    exported = export_onnx(trained, "w.onnx")
    assert "opset 18" in exported.notes[0]
    assert "height and width are 56" in exported.notes[0]
    assert "maxShapes=images:8x3x56x56" in exported.notes[1]
    path = tmp_path / "w.onnx"
    path.write_bytes(exported.content)
    assert exported.check(path) <= exported.tolerance
    model = onnx.load(path)
    assert [one.version for one in model.opset_import if not one.domain] == [18]
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in axes] == [0, 3, 56, 56]


def test_weights_that_no_onnx_file_can_hold_are_refused_before_they_are_traced() -> None:
    with torch.device("meta"):
        backbone = build_backbone("vit_huge_patch14_224", 56)
        network = Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))
    with pytest.raises(UserError, match=r"less than 2 GiB, .* have 2\.3: use --to safetensors"):
        export_onnx(around(network), "w.onnx")


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    needs = rf"--to onnx needs {name}: pip install onnx onnxscript onnxruntime"
    with pytest.raises(UserError, match=needs):
        export_onnx(pretrained(tmp_path), "w.onnx")
