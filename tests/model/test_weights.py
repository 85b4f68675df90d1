"""Weights from every layout that users bring, and refusals of what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from cp2fast.config import ModelSettings
from cp2fast.errors import UserError
from cp2fast.model.backbone import build_backbone, channels
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.model.weights import load_weights

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


def moco(backbone: State) -> dict[str, Any]:
    query = prefixed("module.encoder_q.", backbone | {"fc.0.weight": torch.zeros(4, 4)})
    key = prefixed("module.encoder_k.", {name: tensor + 1 for name, tensor in backbone.items()})
    return {"arch": "resnet18", "state_dict": query | key | {"module.queue": torch.zeros(4, 8)}}


@pytest.mark.parametrize("layout", ["moco", "timm", "torchvision", "timm.safetensors"])
def test_a_bare_backbone_is_loaded(tmp_path: Path, network: Segmenter, layout: str) -> None:
    library = torchvision.models.resnet18 if layout == "torchvision" else None
    classifier = library() if library else timm.create_model("resnet18")
    state = snapshot(classifier)
    expected = {n: t for n, t in state.items() if not n.startswith("fc.")}
    path = tmp_path / ("w.safetensors" if "safetensors" in layout else "w.pth")
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(moco(expected) if layout == "moco" else state, path)
    head = snapshot(network.decode_head)

    report = load_weights(network, path)
    assert sorted(report.matched) == sorted(prefixed("backbone.", expected))
    assert sorted(report.missing) == sorted(prefixed("decode_head.", head))
    unexpected = ["fc.0.weight"] if layout == "moco" else ["fc.bias", "fc.weight"]
    assert sorted(report.unexpected) == unexpected
    torch.testing.assert_close(snapshot(network.backbone), expected, rtol=0, atol=0)
    torch.testing.assert_close(snapshot(network.decode_head), head, rtol=0, atol=0)
    assert str(report).startswith(f"matched {len(expected)} tensors, missing {len(head)} (")


def test_the_newest_checkpoint_of_a_run_is_taken(tmp_path: Path, network: Segmenter) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (10, 9):
        state = build_cp2(SETTINGS, seed=step).state_dict()
        torch.save({"model": state}, tmp_path / f"checkpoints/step_{step:09d}.pt")
    load_weights(network, tmp_path)
    expected = build_cp2(SETTINGS, seed=10).encoder_q.state_dict()
    torch.testing.assert_close(network.state_dict(), expected, rtol=0, atol=0)


def test_skipped_names_stay_as_they_are(tmp_path: Path) -> None:
    torch.save(build_segmenter(SETTINGS).state_dict(), tmp_path / "w.pt")
    network = build_segmenter(SETTINGS, num_classes=3)
    before = network.decode_head.conv_seg.weight.clone()
    report = load_weights(network, tmp_path / "w.pt", skip=["decode_head.conv_seg."])
    assert report.missing == ["decode_head.conv_seg.weight", "decode_head.conv_seg.bias"]
    assert torch.equal(network.decode_head.conv_seg.weight, before)


def test_a_position_embedding_of_another_size_is_resampled(tmp_path: Path) -> None:
    def transformer(size: int) -> Segmenter:
        backbone = build_backbone("vit_tiny_patch16_224", size, depth=1)
        return Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))

    small, large = transformer(64), transformer(128)
    ramp = torch.linspace(0, 1, 4).repeat_interleave(4)  # grows from row to row of the 4 x 4 grid
    with torch.no_grad():
        small.backbone.pos_embed[0, 1:] = ramp[:, None]
    torch.save(small.state_dict(), tmp_path / "w.pt")

    assert "backbone.pos_embed" in load_weights(large, tmp_path / "w.pt").matched
    class_token, grid = large.backbone.pos_embed.detach().split([1, 64], dim=1)
    torch.testing.assert_close(class_token, small.backbone.pos_embed.detach()[:, :1])
    rows = grid.view(8, 8, -1)
    assert (rows.diff(dim=0) > -0.05).all()
    torch.testing.assert_close(rows.diff(dim=1), torch.zeros(8, 7, 192), rtol=0, atol=1e-5)
    assert rows[-1].mean() > 0.9


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


class NotATensor:
    """What a file must not be able to run."""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"weight": torch.zeros(3)}, "none of its 1 tensors has a place"),
        ({"epoch": 3}, "none of its 0 tensors has a place"),
        ([1, 2], "none of its 0 tensors has a place"),
        ({"state_dict": NotATensor()}, "cannot be read as weights"),
    ],
)
def test_a_file_without_fitting_weights_is_refused(
    tmp_path: Path, network: Segmenter, content: object, reason: str
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=reason) as info:
        load_weights(network, tmp_path / "w.pt")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, network: Segmenter, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(UserError, match=f"{name} cannot be read as weights: "):
        load_weights(network, tmp_path / name)


def test_a_path_without_weights_is_refused(tmp_path: Path, network: Segmenter) -> None:
    with pytest.raises(UserError, match=r"no weights at .*nowhere\.pt"):
        load_weights(network, tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match="not a run folder with a checkpoint"):
        load_weights(network, tmp_path)
