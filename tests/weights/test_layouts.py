"""A network found by its own names, whatever is put around them, and in the files of methods."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels, feature_map
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.head import FcnHead, LinearHead
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.weights.layouts import best_match
from cp2fast.weights.load import load_weights
from tests.weights.networks import SETTINGS, State, prefixed, snapshot, transformer


def network() -> State:
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2).state_dict()


OURS = {f"backbone.{name}": t for name, t in network().items() if not name.startswith("fc.")} | {
    "decode_head.conv_seg.weight": torch.ones(2)
}
BACKBONE = {name.removeprefix("backbone."): t for name, t in OURS.items() if "backbone." in name}


def wrong(state: State) -> State:
    """The other of two encoders: taken for the right one, it would show."""
    return {name: tensor + 1 for name, tensor in state.items()}


PREFIXES = [
    *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."),
    *("model.", "encoder.", "net.", "backbone.", "module.backbone.", "backbone._orig_mod."),
    *("model.backbone.", "model.module.encoder._orig_mod.", "trunk._feature_blocks."),
    *("_fsdp_wrapped_module.", "backbone.timm_model."),
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_backbone_is_found_under_any_prefix(prefix: str) -> None:
    match = best_match({"state_dict": prefixed(prefix, BACKBONE)}, OURS)
    torch.testing.assert_close(match.tensors, prefixed("backbone.", BACKBONE), rtol=0, atol=0)
    assert not match.unexpected


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "nothing": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "state_dict_ema": lambda state: {"state_dict_ema": state, "epoch": 3},
    "model_ema": lambda state: {"model_ema": state},
    "ema": lambda state: {"ema": {"module": state, "decay": 0.99}},
    "teacher": lambda state: {"student": wrong(state), "teacher": state},
    "an average beside its network": lambda state: {
        "state_dict": wrong(state),
        "state_dict_ema": state,
    },
    "vissl": lambda state: {"classy_state_dict": {"base_model": {"model": {"trunk": state}}}},
    "a name that nobody knows": lambda state: {"the_net": {"x": state}},
    "a list": lambda state: {"models": [state]},
    "an optimiser's tensors": lambda state: {
        "optimizer": {"exp_avg": wrong(state)},
        "net": state,
    },
    "a momentum encoder": lambda state: (
        prefixed("momentum_encoder.", wrong(state)) | prefixed("encoder.", state)
    ),
    "a key encoder": lambda state: (
        prefixed("encoder_k.", wrong(state)) | prefixed("encoder_q.", state)
    ),
    "parameters": lambda state: {
        name: torch.nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_network_is_found_in_any_wrapper(wrapper: str) -> None:
    for state, expected in ((BACKBONE, prefixed("backbone.", BACKBONE)), (OURS, OURS)):
        match = best_match(WRAPPERS[wrapper](state), OURS)
        torch.testing.assert_close(dict(match.tensors), expected, rtol=0, atol=0)


def test_a_resnet_made_a_sequence_has_its_names_back() -> None:
    model = ResNet(BasicBlock, [1, 1, 1, 1])
    sequence = torch.nn.Sequential(*list(model.children())[:-1])
    match = best_match({"state_dict": prefixed("backbone.", sequence.state_dict())}, OURS)
    expected = {f"backbone.{n}": t for n, t in model.state_dict().items() if "fc." not in n}
    torch.testing.assert_close(match.tensors, expected, rtol=0, atol=0)


@pytest.mark.parametrize("first", ["the right one", "the other"])
@pytest.mark.parametrize(
    ("right", "other"),
    [
        ("teacher_backbone.", "student_backbone."),  # DINO
        ("backbone.", "backbone_momentum."),  # MoCo
        ("online_network.", "target_network."),  # BYOL
    ],
)
def test_of_two_resnets_made_sequences_the_more_suitable_is_taken(
    right: str, other: str, first: str
) -> None:
    model = ResNet(BasicBlock, [1, 1, 1, 1])
    state = torch.nn.Sequential(*list(model.children())[:-1]).state_dict()
    both = [prefixed(right, state), prefixed(other, wrong(state))]
    one, two = both if first == "the right one" else both[::-1]
    match = best_match({"state_dict": one | two}, OURS)
    expected = {f"backbone.{n}": t for n, t in model.state_dict().items() if "fc." not in n}
    torch.testing.assert_close(match.tensors, expected, rtol=0, atol=0)


def test_what_has_no_place_in_the_network_is_named() -> None:
    head = {"projector.0.weight": torch.zeros(2)}
    match = best_match({"model": prefixed("module.", BACKBONE | head)}, OURS)
    assert match.unexpected == ["projector.0.weight"]


@pytest.mark.parametrize("content", [{}, {"a": 1}, {"w": torch.zeros(2)}, {"x": {"y": []}}])
def test_a_file_without_the_network_gives_nothing(content: dict[str, Any]) -> None:
    assert not best_match(content, OURS).tensors


def whole_network_layouts() -> dict[str, Callable[[State, State], Any]]:
    """By name: a file's content, of the states of CP2 and of its query encoder."""
    return {
        "cp2fast": lambda cp2, encoder: {"model": cp2, "step": 3, "settings": {"seed": 0}},
        "original": lambda cp2, encoder: {"state_dict": prefixed("module.", cp2), "epoch": 200},
        "segmenter": lambda cp2, encoder: encoder,
        "parallel": lambda cp2, encoder: {"model": prefixed("module.", encoder)},
        "flat": lambda cp2, encoder: {
            "state_dict": {name.partition(".")[2]: tensor for name, tensor in encoder.items()}
        },
    }


@pytest.mark.parametrize("layout", whole_network_layouts())
def test_a_whole_network_is_loaded(tmp_path: Path, layout: str) -> None:
    network = build_segmenter(SETTINGS)
    cp2 = build_cp2(SETTINGS, seed=1)
    with torch.no_grad():
        for parameter in cp2.encoder_k.parameters():
            parameter.add_(1.0)  # taken for the query encoder, it would show
    expected = snapshot(cp2.encoder_q)
    torch.save(whole_network_layouts()[layout](cp2.state_dict(), expected), tmp_path / "w.pt")

    report = load_weights(network, tmp_path / "w.pt")
    assert sorted(report.matched) == sorted(expected)
    assert (report.missing, [n for n in report.unexpected if "encoder_k" not in n]) == ([], [])
    torch.testing.assert_close(snapshot(network), expected, rtol=0, atol=0)


def moco_v2(state: State) -> dict[str, Any]:
    query = prefixed("module.encoder_q.", flat_head(state))
    key = prefixed("module.encoder_k.", wrong(state))
    return {"arch": "resnet50", "state_dict": query | key | {"module.queue": torch.zeros(4, 8)}}


def moco_v3(state: State) -> dict[str, Any]:
    base = prefixed("module.base_encoder.", flat_head(state))
    momentum = prefixed("module.momentum_encoder.", wrong(state))
    return {"arch": "resnet50", "state_dict": base | momentum}


def dino(state: State) -> dict[str, Any]:
    """The full checkpoint, with the words of the command line beside the two networks."""
    head = {"module.head.mlp.0.weight": torch.zeros(4, 4)}
    student = prefixed("module.backbone.", wrong(state)) | head
    teacher = prefixed("module.backbone.", state) | head
    words = argparse.Namespace(arch="resnet50", out_dim=65536)
    return {"student": student, "teacher": teacher, "epoch": 800, "args": words}


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
