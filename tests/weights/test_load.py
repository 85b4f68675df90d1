"""Weights from every layout that users bring, and refusals of what does not fit."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.models.vision_transformer import checkpoint_filter_fn
from torchvision.models.feature_extraction import create_feature_extractor

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.head import LinearHead
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.weights.load import load_weights
from tests.weights.networks import SETTINGS, snapshot, transformer


@pytest.fixture
def network() -> Segmenter:
    return build_segmenter(SETTINGS)


def test_a_torchvision_transformer_gives_its_features(tmp_path: Path) -> None:
    theirs = torchvision.models.VisionTransformer(64, 16, 1, 3, 192, 768).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    network = transformer(64).eval()
    report = load_weights(network, tmp_path / "w.pth")
    assert not any(name.startswith("backbone.") for name in report.missing)
    images = torch.randn(1, 3, 64, 64)
    extractor = create_feature_extractor(theirs, {"encoder.layers": "tokens"})
    with torch.no_grad():
        tokens = extractor(images)["tokens"]
        torch.testing.assert_close(network.backbone.forward_features(images), tokens)


def test_a_norm_of_any_network_is_no_match_of_a_linear_head(tmp_path: Path) -> None:
    backbone = build_backbone("test_resnet", 64)
    network = Segmenter(backbone, LinearHead(channels(backbone), 4, 3))
    torch.save(
        {"stem.bn.weight": torch.zeros(7), "stem.bn.bias": torch.zeros(7)}, tmp_path / "w.pt"
    )
    with pytest.raises(UserError, match="matched 0 of 2 keys"):
        load_weights(network, tmp_path / "w.pt")


def test_the_newest_checkpoint_of_a_run_is_taken(tmp_path: Path, network: Segmenter) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (10, 9):
        state = build_cp2(SETTINGS, seed=step).state_dict()
        torch.save({"model": state}, tmp_path / f"checkpoints/step_{step:09d}.pt")
    load_weights(network, tmp_path)
    expected = build_cp2(SETTINGS, seed=10).encoder_q.state_dict()
    torch.testing.assert_close(network.state_dict(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("skip", [["decode_head.conv_seg."], ["decode_head.conv"], []])
def test_logits_of_other_classes_and_skipped_names_stay_as_they_are(
    tmp_path: Path, skip: list[str]
) -> None:
    torch.save(build_segmenter(SETTINGS).state_dict(), tmp_path / "w.pt")
    network = build_segmenter(SETTINGS, num_classes=3)
    before = snapshot(network)
    report = load_weights(network, tmp_path / "w.pt", skip)
    assert {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"} <= set(report.missing)
    assert "conv_seg keeps its initial weights: 21 classes in the file, 3 in" in str(report)
    kept = {name: tensor for name, tensor in network.state_dict().items() if name in report.missing}
    torch.testing.assert_close(kept, {name: before[name] for name in kept}, rtol=0, atol=0)
    assert len(kept) == (2 if skip != ["decode_head.conv"] else len(before) - len(report.matched))


def test_a_head_of_another_kind_is_refused(tmp_path: Path, network: Segmenter) -> None:
    aspp = build_segmenter(SETTINGS.model_copy(update={"head": "aspp"}))
    torch.save(aspp.state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        UserError, match=r"model\.head to its own: .*image_pool.* not in the network"
    ):
        load_weights(network, tmp_path / "w.pt")


def test_part_of_a_head_is_refused(tmp_path: Path, network: Segmenter) -> None:
    state = network.state_dict()
    del state["decode_head.conv_cat.conv.weight"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(
        UserError, match=r"1 tensors differ: decode_head\.conv_cat\.conv\.weight not"
    ):
        load_weights(network, tmp_path / "w.pt")


def test_a_position_embedding_of_another_size_is_resized_as_timm_does(tmp_path: Path) -> None:
    small, large = transformer(64), transformer(128)
    torch.save(small.state_dict(), tmp_path / "w.pt")
    report = load_weights(large, tmp_path / "w.pt")
    assert "backbone.pos_embed" in report.matched
    assert "position embedding resized from 4 x 4 to 8 x 8" in str(report)

    theirs, ours = small.backbone.pos_embed.detach(), large.backbone.pos_embed.detach()
    by_timm = checkpoint_filter_fn({"pos_embed": theirs}, large.backbone)["pos_embed"]
    torch.testing.assert_close(ours, by_timm, rtol=0, atol=0)
    grid_1CHW = theirs[:, 1:].transpose(1, 2).reshape(1, -1, 4, 4)
    bicubic = F.interpolate(grid_1CHW, size=(8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(ours[:, 1:], bicubic.flatten(2).transpose(1, 2))
    torch.testing.assert_close(ours[:, :1], theirs[:, :1], rtol=0, atol=0)  # the class token


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (ModelSettings(), "r50_aspp"),
        (ModelSettings(head="fcn"), "r50_fcn"),
        (ModelSettings(backbone="vit_small_patch16_224"), "vits_aspp"),
        (ModelSettings(), "finetune_r50_aspp"),
    ],
    ids=["r50_aspp", "r50_fcn", "vits_aspp", "finetune_r50_aspp"],
)
def test_the_checkpoints_of_the_original_are_loaded(
    tmp_path: Path, golden: Path, settings: ModelSettings, keys: str
) -> None:
    """Each tensor of the release's key list is filled with a number of its own."""
    lines = (golden / f"state_dict_keys_{keys}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    shapes = {name: [int(n) for n in re.findall(r"\d+", shape)] for name, shape, *_ in rows}
    numbers = {name: float(i) for i, name in enumerate(shapes, start=1)}
    state = {name: torch.tensor(numbers[name]).expand(shape) for name, shape in shapes.items()}
    torch.save({"epoch": 200, "state_dict": state, "optimizer": {}}, tmp_path / "w.pth.tar")

    with torch.device("meta"):  # quicker than weights that are overwritten
        network = build_segmenter(settings)
    network.to_empty(device="cpu")
    report = load_weights(network, tmp_path / "w.pth.tar")
    query = "" if keys.startswith("finetune") else "module.encoder_q."
    absent = ["contrast_conv"] if keys.startswith("finetune") else []
    wanted = network.state_dict()
    assert report.unexpected == []
    assert all(any(part in name for part in absent) for name in report.missing)
    assert len(report.matched) + len(report.missing) == len(wanted)
    for name in report.matched:
        assert (wanted[name] == numbers[query + name]).all()


@pytest.mark.parametrize(
    ("theirs", "difference"),
    [
        ("resnet50", r"backbone\..* \[.*\] in the file, \[.*\] in the network"),
        ("resnet34", r"layer1\.2\.conv1\.weight not in the network"),
        ("resnet10t", r"backbone\.\S+ not in the file|in the network"),
    ],
)
def test_another_architecture_is_refused_and_changes_nothing(
    tmp_path: Path, network: Segmenter, theirs: str, difference: str
) -> None:
    torch.save(timm.create_model(theirs).state_dict(), tmp_path / "w.pth")
    before = snapshot(network)
    with pytest.raises(UserError, match=rf"w\.pth .*another architecture.*({difference})") as info:
        load_weights(network, tmp_path / "w.pth")
    assert "\n" not in str(info.value)
    torch.testing.assert_close(snapshot(network), before, rtol=0, atol=0)


def test_part_of_a_backbone_is_refused(tmp_path: Path, network: Segmenter) -> None:
    state = timm.create_model("resnet18").state_dict()
    del state["layer4.1.conv2.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 tensors differ: .*layer4\.1\.conv2\.weight not in"):
        load_weights(network, tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{"weight": torch.zeros(3)}, {"epoch": 3}, [1, 2]])
def test_a_file_of_which_nothing_fits_is_refused(
    tmp_path: Path, network: Segmenter, content: object
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt: matched 0 of [01] keys: it holds") as info:
        load_weights(network, tmp_path / "w.pt")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(
    tmp_path: Path, network: Segmenter, dtype: torch.dtype
) -> None:
    torch.save({n: t.to(dtype) for n, t in snapshot(network).items()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"as (int8|float8_e4m3fn): these are quantised weights"):
        load_weights(network, tmp_path / "w.pth")


ODD_TENSORS = {
    "no dimensions": {"decode_head.conv_seg.weight": torch.tensor(1.0)},
    "sparse": {"backbone.conv1.weight": torch.zeros(3, 3).to_sparse()},
    "on no device": {"backbone.conv1.weight": torch.zeros(3, device="meta")},
    "unequal query and key": {
        "embeddings.cls_token": torch.zeros(1, 1, 8),
        "encoder.layer.0.attention.attention.query.weight": torch.zeros(8, 8),
        "encoder.layer.0.attention.attention.key.weight": torch.zeros(4, 9),
    },
}


@pytest.mark.parametrize("odd", ODD_TENSORS)
def test_tensors_of_unusual_kinds_and_shapes_are_refused(
    tmp_path: Path, network: Segmenter, odd: str
) -> None:
    torch.save(snapshot(network) | ODD_TENSORS[odd], tmp_path / "w.pth")
    before = snapshot(network)
    with pytest.raises(
        UserError, match=r"w\.pth holds unusable tensors \(.+\): name another"
    ) as info:
        load_weights(network, tmp_path / "w.pth")
    assert "\n" not in str(info.value)
    torch.testing.assert_close(snapshot(network), before, rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_weights_that_are_no_numbers_of_the_network_are_refused(
    tmp_path: Path, network: Segmenter, value: float
) -> None:
    """1e300 is a number in 64 bits, and infinity in the network's 32."""
    state = snapshot(network)
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].double()
    state["backbone.conv1.weight"][0] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"holds NaN or infinity in backbone.conv1.weight"):
        load_weights(network, tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(
    tmp_path: Path, network: Segmenter, dtype: torch.dtype
) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in snapshot(network).items()}
    torch.save(state, tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth")
    assert network.backbone.conv1.weight.dtype == torch.float32
