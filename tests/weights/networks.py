"""Small networks for files of weights, and their states."""

from __future__ import annotations

import torch
from torch import Tensor

from cp2fast.config import ModelSettings
from cp2fast.model.backbone import build_backbone, channels
from cp2fast.model.head import FcnHead
from cp2fast.model.segmenter import Segmenter

SETTINGS = ModelSettings(
    backbone="resnet18", head="fcn", head_channels=8, embedding=4, size=64, queue=8
)


State = dict[str, Tensor]


def snapshot(network: torch.nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def transformer(size: int) -> Segmenter:
    backbone = build_backbone("vit_tiny_patch16_224", size, depth=1)
    return Segmenter(backbone, FcnHead(channels(backbone), 8, 4, 3))
