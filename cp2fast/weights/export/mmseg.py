"""The whole network for mmsegmentation: a checkpoint and its model configuration."""

from __future__ import annotations

import copy
import io
import re
import sys
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from pprint import pformat
from types import ModuleType
from typing import Any

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from cp2fast import __version__
from cp2fast.errors import UserError
from cp2fast.labels.classes import palette_of
from cp2fast.model.backbone import has_patches, levels, options_of
from cp2fast.model.head import ASPP_DILATIONS, DROPOUT, LinearHead
from cp2fast.model.segmenter import build_segmenter
from cp2fast.weights.export.exported import (
    Exported,
    largest_difference,
    random_images,
    side_in_whole_cells,
)
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import Trained

_INSTALL = "pip install mmsegmentation 'mmcv-lite<2.2' ftfy regex"
_CONTRAST = "decode_head.contrast_conv."
_NORM = {"type": "SyncBN", "requires_grad": True}


def export_mmseg(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.pth`` or ``.pt`` with ``meta`` and ``state_dict``, as mmseg writes it.

    ResNet-50, 101 and 152 use the names of mmseg's ResNet and of the original CP2's checkpoints.
    All other backbones use mmseg's TIMMBackbone: mmseg's own ResNet dilates only one convolution of
    a basic block where timm dilates both, and its transformers have other names. Of a linear head,
    which mmseg does not have, the batch norm is folded into the layer after it.

    A fine-tuned network is exported without the contrast's projection, which mmseg's heads do not
    have; a pretrained one includes it, like the original's checkpoints.

    Raises:
        UserError: a linear head, and mmsegmentation is not installed to check the folding.
    """
    unavailable = _why_unavailable()
    if unavailable and trained.model.head == "linear":
        raise UserError(
            "--to mmseg with model.head=linear needs mmsegmentation, to read the file back "
            f"({unavailable}): {_INSTALL}"
        )
    classes = list(trained.network.classes)
    palette = palette_of(trained.facts.get("colours") or ())
    meta = {"dataset_meta": {"classes": classes, "palette": palette[: len(classes)].tolist()}}
    buffer = io.BytesIO()
    torch.save({"meta": meta, "state_dict": _state(trained)}, buffer)

    config = _config(trained, file)
    side = side_in_whole_cells(trained)  # images as mmseg's preprocessor pads them

    @torch.no_grad()
    def check(path: Path) -> float:
        images = random_images(2, side, side)
        if unavailable:
            return _difference_in_cp2fast(trained, path, images)
        return _difference_in_mmseg(trained, config, path, images)

    return Exported(
        content=buffer.getvalue(),
        holds="the whole network",
        check=check,
        library=f"cp2fast {__version__} itself"
        if unavailable
        else f"mmsegmentation {version('mmsegmentation')}",
        usage="# in a configuration of mmsegmentation; the file beside it\n"
        f"model = {pformat(config, width=96, sort_dicts=False)}\n",
        notes=_notes(trained, unavailable),
    )


def _state(trained: Trained) -> dict[str, Tensor]:
    """The tensors by mmseg's names."""
    state = trained.network.state_dict()
    if isinstance(trained.network.decode_head, LinearHead):
        state = _without_norm(state, trained.network.decode_head)
    theirs = "backbone." if _mmseg_resnet(trained) else "backbone.timm_model.model."
    return {
        re.sub(r"^backbone\.", theirs, name): tensor
        for name, tensor in state.items()
        if not (trained.is_finetuned and name.startswith(_CONTRAST))
    }


def _without_norm(state: dict[str, Tensor], head: LinearHead) -> dict[str, Tensor]:
    """The tensors with the batch norm of a linear head folded into the convolutions after it."""
    mean, var = state["decode_head.bn.running_mean"], state["decode_head.bn.running_var"]
    scale = state["decode_head.bn.weight"] / (var + head.bn.eps).sqrt()
    shift = state["decode_head.bn.bias"] - mean * scale
    folded = {n: t for n, t in state.items() if not n.startswith("decode_head.bn.")}
    for name in ("decode_head.conv_seg", f"{_CONTRAST}0"):
        weight = state[f"{name}.weight"]
        folded[f"{name}.weight"] = weight * scale[:, None, None]
        folded[f"{name}.bias"] = state[f"{name}.bias"] + weight[..., 0, 0] @ shift
    return folded


def _mmseg_resnet(trained: Trained) -> re.Match[str] | None:
    """Whether the backbone is a ResNet that mmseg has too, with its depth as group 1."""
    return re.fullmatch(r"resnet(50|101|152)", trained.model.backbone)


def _config(trained: Trained, file: str) -> dict[str, Any]:
    """The ``model`` of an mmseg configuration."""
    size = trained.model.size
    preprocessor: dict[str, Any] = {
        "type": "SegDataPreProcessor",
        "mean": [255 * value for value in trained.network.mean],
        "std": [255 * value for value in trained.network.std],
        "bgr_to_rgb": True,
        "size": (size, size),
        "pad_val": 0,
        "seg_pad_val": 255,
    }
    if has_patches(trained.network.backbone):
        # Padded to whole cells, as ``Segmenter.upsample`` takes them, and cut off afterwards.
        preprocessor["test_cfg"] = {"size_divisor": trained.network.feature_stride}
    return {
        "type": "EncoderDecoder",
        "init_cfg": {"type": "Pretrained", "checkpoint": file},
        "data_preprocessor": preprocessor,
        "backbone": _backbone_config(trained),
        "decode_head": _head_config(trained),
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


def _backbone_config(trained: Trained) -> dict[str, Any]:
    name, backbone = trained.model.backbone, trained.network.backbone
    pyramid = trained.model.head == "segformer"
    resnet = _mmseg_resnet(trained)
    if resnet:
        dilated = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2), "contract_dilation": True}
        return {
            "type": "ResNet",
            "depth": int(resnet[1]),
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "style": "pytorch",
            **({} if pyramid else dilated),
            "norm_cfg": _NORM,
        }
    wanted = levels(backbone) if pyramid else levels(backbone)[-1:]
    norm = {"norm_layer": "SyncBN"} if isinstance(backbone, ResNet) else {}
    return {
        "type": "TIMMBackbone",
        "model_name": name,
        "pretrained": False,
        "features_only": True,
        "feature_cls": "getter",  # timm's own names, and maps with channels first
        "out_indices": tuple(level.index for level in wanted),
        **options_of(name, trained.model.size, pyramid=pyramid),
        **norm,
    }


def _head_config(trained: Trained) -> dict[str, Any]:
    network = trained.network
    maps = levels(network.backbone)
    common = {
        "num_classes": len(network.decode_head.conv_seg.weight),
        "align_corners": False,
        "norm_cfg": _NORM,
    }
    if trained.model.head == "segformer":
        return common | {
            "type": "SegformerHead",
            "in_channels": [level.channels for level in maps],
            "in_index": list(range(len(maps))),
            "channels": trained.model.head_channels,
            "dropout_ratio": DROPOUT,
        }
    common |= {"in_channels": maps[-1].channels, "in_index": -1}
    if trained.model.head == "linear":
        return common | {
            "type": "FCNHead",
            "num_convs": 0,
            "concat_input": False,
            "channels": maps[-1].channels,
            "dropout_ratio": 0,
        }
    layers = (
        {"type": "ASPPHead", "dilations": ASPP_DILATIONS}
        if trained.model.head == "aspp"
        else {"type": "FCNHead", "num_convs": 2, "concat_input": True}
    )
    return common | layers | {"channels": trained.model.head_channels, "dropout_ratio": DROPOUT}


def _why_unavailable() -> str | None:
    """Why mmsegmentation cannot be used here; None if it can."""
    try:
        stand_in_for_mmcv_ops()
        with warnings.catch_warnings(action="ignore"):  # from its own imports
            import mmseg.models  # noqa: F401  # fills the registry
    except Exception as error:  # any kind: its imports register, compile and check versions
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def stand_in_for_mmcv_ops() -> None:
    """If mmcv is mmcv-lite, replace its missing compiled operations with classes that do nothing.

    pip installs mmcv-lite anywhere, whereas mmcv must be compiled. mmseg imports the operations
    with every model; the exported networks use none of them.
    """

    def operation(name: str) -> type[nn.Module]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {})

    if find_spec("mmcv") is not None and find_spec("mmcv._ext") is None:
        operations = ModuleType("mmcv.ops")
        operations.__path__ = []
        operations.__getattr__ = operation  # type: ignore[method-assign]
        sys.modules["mmcv.ops"] = operations


def _difference_in_mmseg(
    trained: Trained, config: dict[str, Any], path: Path, images: Tensor
) -> float:
    """Difference of the logits, or of the embedding computed from mmseg's hidden features.

    Raises:
        RuntimeError: a name or a shape in the file does not match mmseg's model.
    """
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        theirs = MODELS.build(config).eval()
    state = torch.load(path, weights_only=True)["state_dict"]
    theirs.load_state_dict({n: t for n, t in state.items() if not n.startswith(_CONTRAST)})
    features = theirs.extract_feat(images)
    if trained.is_finetuned:
        return largest_difference(trained.network(images), theirs.decode_head(features))
    theirs.decode_head.conv_seg = nn.Identity()  # its hidden features come out
    ours = copy.deepcopy(trained.network)
    projection = {n.removeprefix(_CONTRAST): t for n, t in state.items() if n.startswith(_CONTRAST)}
    ours.decode_head.contrast_conv.load_state_dict(projection)
    embedding = ours.project(theirs.decode_head(features))
    return largest_difference(trained.network.embed(images), embedding)


def _difference_in_cp2fast(trained: Trained, path: Path, images: Tensor) -> float:
    """The same difference, with a new cp2fast network instead of mmseg's."""
    network = trained.network
    with torch.random.fork_rng(devices=[]):
        theirs = build_segmenter(trained.model, len(network.decode_head.conv_seg.weight)).eval()
    load_weights(theirs, path)
    if trained.is_finetuned:
        return largest_difference(network(images), theirs(images))
    return largest_difference(network.embed(images), theirs.embed(images))


def _notes(trained: Trained, unavailable: str | None) -> list[str]:
    notes = []
    if unavailable:
        notes.append(
            f"mmsegmentation does not work here ({unavailable}), so the file was read back by a "
            f"new network of cp2fast; to check it with mmsegmentation itself: {_INSTALL}"
        )
    if not trained.is_finetuned:
        notes.append(
            "decode_head.contrast_conv is the projection of the contrast: mmseg reports it as "
            "unexpected and does without; decode_head.conv_seg is not trained yet."
        )
    if not _mmseg_resnet(trained):
        notes.append("The backbone is timm's, in mmseg's TIMMBackbone: timm must be installed.")
    if trained.model.head == "linear":
        notes.append("The head is an FCNHead without convolutions, with batch norm folded into it.")
    return notes
