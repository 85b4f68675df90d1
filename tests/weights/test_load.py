"""Weights from every layout that users bring, and refusals of what does not fit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import Bottleneck, ResNet

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, feature_map
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.head import FcnHead, LinearHead
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.weights.load import load_weights

SETTINGS = ModelSettings(
    backbone="resnet18", head="fcn", head_channels=8, embedding=4, size=64, queue=8
)
State = dict[str, Tensor]


def snapshot(network: torch.nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def flat(state: State) -> State:
    return {name.partition(".")[2]: tensor for name, tensor in state.items()}


@pytest.fixture
def network() -> Segmenter:
    return build_segmenter(SETTINGS)


def whole_network_layouts() -> dict[str, Callable[[State, State], Any]]:
    """By name: a file's content, of the states of CP2 and of its query encoder."""
    return {
        "cp2fast": lambda cp2, encoder: {"model": cp2, "step": 3, "settings": {"seed": 0}},
        "original": lambda cp2, encoder: {"state_dict": prefixed("module.", cp2), "epoch": 200},
        "segmenter": lambda cp2, encoder: encoder,
        "parallel": lambda cp2, encoder: {"model": prefixed("module.", encoder)},
        "flat": lambda cp2, encoder: {"state_dict": flat(encoder)},
    }


@pytest.mark.parametrize("layout", whole_network_layouts())
def test_a_whole_network_is_loaded(tmp_path: Path, network: Segmenter, layout: str) -> None:
    cp2 = build_cp2(SETTINGS, seed=1)
    with torch.no_grad():
        for parameter in cp2.encoder_k.parameters():
            parameter.add_(1.0)  # the wrong encoder would show
    expected = snapshot(cp2.encoder_q)
    torch.save(whole_network_layouts()[layout](cp2.state_dict(), expected), tmp_path / "w.pt")

    report = load_weights(network, tmp_path / "w.pt")
    assert sorted(report.matched) == sorted(expected)
    assert (report.missing, [n for n in report.unexpected if "encoder_k" not in n]) == ([], [])
    torch.testing.assert_close(snapshot(network), expected, rtol=0, atol=0)


def moco_v2(state: State) -> dict[str, Any]:
    query = prefixed("module.encoder_q.", flat_head(state))
    key = prefixed("module.encoder_k.", shifted(state))
    return {"arch": "resnet50", "state_dict": query | key | {"module.queue": torch.zeros(4, 8)}}


def moco_v3(state: State) -> dict[str, Any]:
    base = prefixed("module.base_encoder.", flat_head(state))
    momentum = prefixed("module.momentum_encoder.", shifted(state))
    return {"arch": "resnet50", "state_dict": base | momentum}


def dino(state: State) -> dict[str, Any]:
    """The full checkpoint, with the words of the command line beside the two networks."""
    head = {"module.head.mlp.0.weight": torch.zeros(4, 4)}
    student = prefixed("module.backbone.", shifted(state)) | head
    teacher = prefixed("module.backbone.", state) | head
    words = argparse.Namespace(arch="resnet50", out_dim=65536)
    return {"student": student, "teacher": teacher, "epoch": 800, "args": words}


def shifted(state: State) -> State:
    """The wrong encoder, which would show."""
    return {name: tensor + 1 for name, tensor in state.items()}


def flat_head(state: State) -> State:
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return backbone | {"fc.0.weight": torch.zeros(4, 4)}


BARE_BACKBONES: dict[str, Callable[[State], Any]] = {
    "torchvision": lambda state: state,
    "moco v1 and v2": moco_v2,
    "moco v3": moco_v3,
    "dino": dino,
    "deit": lambda state: {"model": state},
    "mmseg": lambda state: {"meta": {"CLASSES": ["a"]}, "state_dict": prefixed("backbone.", state)},
    "safetensors": lambda state: state,
    "safetensors under another name": lambda state: state,
}


@pytest.fixture(scope="module")
def shallow_resnet() -> ResNet:
    """torchvision's, with a block a stage, at the output stride of the segmenter."""
    dilated = [False, False, True]
    return ResNet(Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=dilated).eval()


@pytest.mark.parametrize("layout", BARE_BACKBONES)
def test_a_bare_backbone_gives_the_features_of_its_library(
    tmp_path: Path, shallow_resnet: ResNet, layout: str
) -> None:
    state = snapshot(shallow_resnet)
    path = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pth.tar")
    save = save_file if layout.startswith("safetensors") else torch.save
    save(BARE_BACKBONES[layout](state), path)
    backbone = build_backbone("resnet50", 64, layers=[1, 1, 1, 1])
    network = Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3)).eval()
    head = snapshot(network.decode_head)

    report = load_weights(network, path)
    names = [name for name in state if not name.startswith("fc.")]
    assert sorted(report.matched) == sorted("backbone." + name for name in names)
    assert sorted(report.missing) == sorted(prefixed("decode_head.", head))
    assert all("fc." in name or "head.mlp" in name for name in report.unexpected)
    assert str(report).startswith(f"matched {len(names)} tensors, missing {len(head)} (")
    assert "the backbone alone: the head keeps its initial weights" in str(report)
    torch.testing.assert_close(snapshot(network.decode_head), head, rtol=0, atol=0)

    images = torch.randn(1, 3, 64, 64)
    theirs = create_feature_extractor(shallow_resnet, {"layer4": "features"})
    with torch.no_grad():
        ours = feature_map(network.backbone, images)
        torch.testing.assert_close(ours, theirs(images)["features"])


def dino_transformer(state: State) -> dict[str, Any]:
    return {"teacher": prefixed("backbone.", state), "args": argparse.Namespace(arch="vit_tiny")}


@pytest.mark.parametrize("layout", [lambda state: state, dino_transformer, moco_v3])
def test_a_bare_transformer_gives_the_features_of_timm(
    tmp_path: Path, layout: Callable[[State], Any]
) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1).eval()
    torch.save(layout(theirs.state_dict()), tmp_path / "w.pth")
    network = transformer(64).eval()
    report = load_weights(network, tmp_path / "w.pth")
    unexpected = {name.removeprefix("backbone.").split(".")[0] for name in report.unexpected}
    assert unexpected <= {"norm", "head", "fc"}
    images = torch.randn(1, 3, 64, 64)
    options = {"indices": 1, "norm": False, "intermediates_only": True}
    with torch.no_grad():
        [expected] = theirs.forward_intermediates(images, **options)
        torch.testing.assert_close(feature_map(network.backbone, images), expected)


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


def test_the_transformer_of_moco_v3_with_other_attention_heads_is_refused(tmp_path: Path) -> None:
    def small(heads: int) -> Segmenter:
        backbone = build_backbone("vit_small_patch16_224", 64, depth=1, num_heads=heads)
        return Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))

    torch.save(moco_v3(small(12).backbone.state_dict()), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"attention has 12 heads where timm's has 6"):
        load_weights(small(6), tmp_path / "w.pth")
    assert load_weights(small(12), tmp_path / "w.pth").matched


def moco_v3_positions(width: int, side: int) -> torch.Tensor:
    """Those that MoCo v3 fixes: sine and cosine of the row, then of the column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    omega = 1 / 10_000 ** (torch.arange(width // 4) / (width // 4))
    angles = [places.flatten()[:, None] * omega for places in (rows, columns)]
    grid = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), grid])[None]


def test_moco_v3_is_known_by_its_positions_where_its_names_are_others(tmp_path: Path) -> None:
    """solo-learn calls its network backbone, whatever the method, and gives its ViT-Ti 12 heads."""
    backbone = build_backbone("vit_tiny_patch16_224", 64, depth=1)
    network = Segmenter(backbone, LinearHead(channels(backbone), 4, 3))
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    load_weights(network, tmp_path / "other.ckpt")
    state["backbone.pos_embed"] = moco_v3_positions(192, 4)
    torch.save({"state_dict": state}, tmp_path / "moco.ckpt")
    with pytest.raises(UserError, match=r"attention has 12 heads where timm's has 3"):
        load_weights(network, tmp_path / "moco.ckpt")


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


def transformer(size: int) -> Segmenter:
    backbone = build_backbone("vit_tiny_patch16_224", size, depth=1)
    return Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))


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


def test_quantised_weights_are_refused(tmp_path: Path, network: Segmenter) -> None:
    state = {n: (t * 100).to(torch.int8) for n, t in snapshot(network).items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"as int8: these are quantised weights"):
        load_weights(network, tmp_path / "w.pth")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, network: Segmenter) -> None:
    state = snapshot(network)
    state["backbone.conv1.weight"][0] = float("nan")
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
