"""A network found by its own names, whatever is put around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet

from cp2fast.weights.layouts import best_match

State = dict[str, Tensor]


def network() -> State:
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2).state_dict()


OURS = {f"backbone.{name}": t for name, t in network().items() if not name.startswith("fc.")} | {
    "decode_head.conv_seg.weight": torch.ones(2)
}
BACKBONE = {name.removeprefix("backbone."): t for name, t in OURS.items() if "backbone." in name}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def wrong(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


PREFIXES = [
    *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."),
    *("model.", "encoder.", "net.", "backbone.", "module.backbone.", "backbone._orig_mod."),
    *("model.backbone.", "model.module.encoder._orig_mod.", "trunk._feature_blocks."),
    *("_fsdp_wrapped_module.", "backbone.timm_model."),
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_backbone_is_found_under_any_prefix(prefix: str) -> None:
    match = best_match({"state_dict": under(prefix, BACKBONE)}, OURS)
    torch.testing.assert_close(match.tensors, under("backbone.", BACKBONE), rtol=0, atol=0)
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
        under("momentum_encoder.", wrong(state)) | under("encoder.", state)
    ),
    "a key encoder": lambda state: under("encoder_k.", wrong(state)) | under("encoder_q.", state),
    "parameters": lambda state: {
        name: torch.nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_network_is_found_in_any_wrapper(wrapper: str) -> None:
    for state, expected in ((BACKBONE, under("backbone.", BACKBONE)), (OURS, OURS)):
        match = best_match(WRAPPERS[wrapper](state), OURS)
        torch.testing.assert_close(dict(match.tensors), expected, rtol=0, atol=0)


def test_a_resnet_made_a_sequence_has_its_names_back() -> None:
    model = ResNet(BasicBlock, [1, 1, 1, 1])
    sequence = torch.nn.Sequential(*list(model.children())[:-1])
    match = best_match({"state_dict": under("backbone.", sequence.state_dict())}, OURS)
    expected = {f"backbone.{n}": t for n, t in model.state_dict().items() if "fc." not in n}
    torch.testing.assert_close(match.tensors, expected, rtol=0, atol=0)


def test_what_has_no_place_in_the_network_is_named() -> None:
    head = {"projector.0.weight": torch.zeros(2)}
    match = best_match({"model": under("module.", BACKBONE | head)}, OURS)
    assert match.unexpected == ["projector.0.weight"]


@pytest.mark.parametrize("content", [{}, {"a": 1}, {"w": torch.zeros(2)}, {"x": {"y": []}}])
def test_a_file_without_the_network_gives_nothing(content: dict[str, Any]) -> None:
    assert not best_match(content, OURS).tensors
