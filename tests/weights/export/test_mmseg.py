"""Exports to mmseg: in mmsegmentation itself, and under the names of the original's checkpoints."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.segmenter import build_segmenter
from cp2fast.weights.export.mmseg import export_mmseg
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import Trained
from tests.weights.export.trained_networks import CLASSES, around, finetuned, pretrained

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("keys", "head"), [("r50_aspp", "aspp"), ("r50_fcn", "fcn"), ("finetune_r50_aspp", "aspp")]
)
def test_names_and_shapes_of_a_resnet50_are_those_of_the_original(
    golden: Path, keys: str, head: str
) -> None:
    lines = (golden / f"state_dict_keys_{keys}.txt").read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines if not line.startswith("#")]
    query = "" if keys.startswith("finetune") else "module.encoder_q."
    expected = {n.removeprefix(query): shape for n, shape in rows if n.startswith(query)}

    settings = {"backbone": "resnet50", "head": head, "head_channels": 512, "embedding": 128}
    with torch.device("meta"):
        network = build_segmenter(ModelSettings(**settings))
    trained = around(network, **settings)
    trained.facts["kind"] = "finetune" if keys.startswith("finetune") else "pretrain"
    content = torch.load(io.BytesIO(export_mmseg(trained, "w.pth").content), weights_only=True)
    assert {n: str(tuple(t.shape)) for n, t in content["state_dict"].items()} == expected


BACKBONES = ["resnet50", "vit_tiny_patch16_224"]
NETWORKS = [
    ("resnet18", "aspp"),
    ("resnet50", "aspp"),
    ("resnet50", "segformer"),
    ("resnext50_32x4d", "fcn"),
    ("vit_tiny_patch16_224", "fcn"),
    ("test_convnext", "segformer"),
    ("test_convnext", "aspp"),
    ("test_efficientnet", "segformer"),
    ("test_vit", "linear"),
    ("mobilenetv4_conv_small", "fcn"),
    ("swin_tiny_patch4_window7_224", "segformer"),
    ("vit_small_patch16_dinov3", "linear"),
]


@pytest.mark.parametrize(("backbone", "head"), NETWORKS)
def test_mmsegmentation_segments_a_photo_as_the_network_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, head: str
) -> None:
    """From the photo's pixels to its logits by mmseg's own functions, and by cp2fast's."""
    monkeypatch.chdir(tmp_path)
    trained = finetuned(tmp_path, backbone=backbone, head=head)
    Path("w.pth").write_bytes(export_mmseg(trained, "w.pth").content)

    from mmengine import Config
    from mmseg.apis import inference_model, init_model

    config = Config({"model": configuration(trained), "test_pipeline": [{"type": "PackSegInputs"}]})
    config.test_pipeline.insert(0, {"type": "LoadImageFromNDArray"})
    theirs = init_model(config, "w.pth", device="cpu")
    assert theirs.dataset_meta["classes"] == CLASSES
    assert theirs.dataset_meta["palette"] == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]  # VOC's first

    photo_HW3 = np.random.default_rng(0).integers(0, 256, (72, 56, 3), dtype=np.uint8)
    result = inference_model(theirs, photo_HW3[..., ::-1].copy())  # mmseg's photos are BGR
    images = normalised(photo_HW3)
    with torch.no_grad():
        logits = trained.network.upsample(trained.network(images), images.shape[2:])[0]
    inside = (..., slice(70), slice(54))  # mmseg blends the last two pixels with what it padded
    torch.testing.assert_close(
        result.seg_logits.data[inside], logits[inside], rtol=1e-3, atol=1e-4 * logits.abs().max()
    )
    assert logits.std(dim=(1, 2)).min() > 1e-3  # an image that would show a difference


def configuration(trained: Trained) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(export_mmseg(trained, "w.pth").usage, names)  # noqa: S102
    model: dict[str, Any] = names["model"]
    return model


def normalised(photo_HW3: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(photo_HW3).permute(2, 0, 1)[None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("resnet18", "fcn"),
        ("resnet50", "aspp"),
        ("test_convnext", "segformer"),
        ("test_vit", "linear"),
    ],
)
@pytest.mark.parametrize("train", [pretrained, finetuned])
def test_the_file_is_read_back_by_mmsegmentation(
    tmp_path: Path, backbone: str, head: str, train: Any
) -> None:
    trained, path = train(tmp_path, backbone=backbone, head=head), tmp_path / "w.pth"
    exported = export_mmseg(trained, path.name)
    path.write_bytes(exported.content)
    assert exported.library.startswith("mmsegmentation 1.")
    assert 0 <= exported.check(path) <= exported.tolerance
    assert any("TIMMBackbone" in note for note in exported.notes) == (backbone != "resnet50")


def test_mmsegmentation_would_show_a_weight_that_is_another(tmp_path: Path) -> None:
    trained, path = finetuned(tmp_path), tmp_path / "w.pth"
    exported = export_mmseg(trained, path.name)
    content = torch.load(io.BytesIO(exported.content), weights_only=True)
    content["state_dict"]["backbone.timm_model.model.layer4.1.conv2.weight"] *= 1.1
    torch.save(content, path)
    assert exported.check(path) > exported.tolerance
    del content["state_dict"]["backbone.timm_model.model.layer4.1.conv2.weight"]
    torch.save(content, path)
    with pytest.raises(RuntimeError, match=r"layer4\.1\.conv2\.weight"):
        exported.check(path)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_without_mmsegmentation_the_file_is_read_back_by_cp2fast_and_the_card_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    for module in ("mmseg", "mmseg.models"):
        monkeypatch.setitem(sys.modules, module, None)
    trained, path = finetuned(tmp_path, backbone=backbone), tmp_path / "w.pth"
    exported = export_mmseg(trained, path.name)
    path.write_bytes(exported.content)
    assert exported.library.startswith("cp2fast ")
    assert exported.check(path) <= exported.tolerance
    assert any("mmsegmentation does not work here" in note for note in exported.notes)


def test_a_folded_head_is_not_written_where_mmsegmentation_cannot_read_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mmseg.models", None)
    with pytest.raises(UserError, match=r"model\.head=linear needs mmsegmentation.*pip install"):
        export_mmseg(finetuned(tmp_path, backbone="test_vit", head="linear"), "w.pth")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_file_goes_into_another_network_of_cp2fast(tmp_path: Path, backbone: str) -> None:
    trained, path = finetuned(tmp_path, backbone=backbone), tmp_path / "w.pth"
    path.write_bytes(export_mmseg(trained, path.name).content)
    network = build_segmenter(trained.model, num_classes=len(CLASSES)).eval()
    assert load_weights(network, path).unexpected == []
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), trained.network(images))
