"""The whole network for mmsegmentation: a checkpoint and its model configuration."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from cp2fast import __version__
from cp2fast.errors import UserError
from cp2fast.labels.classes import palette_of
from cp2fast.model.families import OUTPUT_STRIDE
from cp2fast.model.head import ASPP_DILATIONS, DROPOUT
from cp2fast.model.segmenter import build_segmenter
from cp2fast.weights.export.exported import Exported, largest_difference, random_images
from cp2fast.weights.export.mmcv_ops import stand_in_for_mmcv_ops
from cp2fast.weights.load import load_weights
from cp2fast.weights.trained import Trained

_INSTALL = "pip install mmsegmentation 'mmcv-lite<2.2' ftfy regex"
_CONTRAST = "decode_head.contrast_conv."
_NORM = {"type": "SyncBN", "requires_grad": True}


def export_mmseg(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.pth`` or ``.pt`` with ``meta`` and ``state_dict``, as mmseg writes it.

    ResNet-50, 101 and 152 use the names of mmseg's ResNet and of the original CP2's checkpoints.
    Other ResNets and plain transformers use mmseg's TIMMBackbone: mmseg's own ResNet dilates only
    one convolution of a basic block where timm dilates both, and its VisionTransformer has other
    names.

    A fine-tuned network is exported without the contrast's projection, which mmseg's heads do not
    have; a pretrained one includes it, like the original's checkpoints.

    Raises:
        UserError: the backbone or the head is not supported for mmsegmentation.
    """
    network = trained.network
    _check_supported(trained)
    ours, theirs = "backbone.", f"backbone.{_prefix(trained)}"
    state = {
        theirs + name.removeprefix(ours) if name.startswith(ours) else name: tensor
        for name, tensor in network.state_dict().items()
        if not (trained.is_finetuned and name.startswith(_CONTRAST))
    }
    palette = palette_of(trained.facts.get("colours") or ())
    classes = list(network.classes)
    meta = {"dataset_meta": {"classes": classes, "palette": palette[: len(classes)].tolist()}}
    buffer = io.BytesIO()
    torch.save({"meta": meta, "state_dict": state}, buffer)

    config = _config(trained, file)
    unavailable = _why_unavailable()

    @torch.no_grad()
    def check(path: Path) -> float:
        images = random_images(2, trained.model.size, trained.model.size)
        if unavailable:
            return _difference_in_cp2fast(trained, path, images)
        return _difference_in_mmseg(trained, config, path, images)

    return Exported(
        content=buffer.getvalue(),
        holds="the whole network",
        check=check,
        tolerance=1e-5,
        library=f"cp2fast {__version__} itself" if unavailable else _mmseg_version(),
        usage="# in a configuration of mmsegmentation; the file beside it\n"
        f"model = {pformat(config, width=96, sort_dicts=False)}\n",
        notes=_notes(trained, unavailable),
    )


def _check_supported(trained: Trained) -> None:
    model = trained.model
    if model.head not in ("aspp", "fcn"):
        raise UserError(
            f"--to mmseg takes networks with model.head=aspp or fcn, not {model.head}: use --to "
            "safetensors or --to onnx"
        )
    if not isinstance(trained.network.backbone, ResNet | VisionTransformer):
        raise UserError(
            f"--to mmseg takes ResNets and plain vision transformers, not {model.backbone}: use "
            "--to safetensors or --to onnx"
        )


def _is_mmseg_resnet(backbone: str) -> re.Match[str] | None:
    return re.fullmatch(r"resnet(50|101|152)", backbone)


def _prefix(trained: Trained) -> str:
    """The prefix of timm's names of the backbone's tensors."""
    if _is_mmseg_resnet(trained.model.backbone):
        return ""
    # timm's features_only wraps a transformer in another module, but not a ResNet.
    is_transformer = isinstance(trained.network.backbone, VisionTransformer)
    return "timm_model.model." if is_transformer else "timm_model."


def _config(trained: Trained, file: str) -> dict[str, Any]:
    """The ``model`` of an mmseg configuration."""
    size = trained.model.size
    return {
        "type": "EncoderDecoder",
        "init_cfg": {"type": "Pretrained", "checkpoint": file},
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": [255 * value for value in trained.network.mean],
            "std": [255 * value for value in trained.network.std],
            "bgr_to_rgb": True,
            "size": (size, size),
            "pad_val": 0,
            "seg_pad_val": 255,
        },
        "backbone": _backbone_config(trained),
        "decode_head": _head_config(trained),
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


def _backbone_config(trained: Trained) -> dict[str, Any]:
    name, backbone = trained.model.backbone, trained.network.backbone
    resnet = _is_mmseg_resnet(name)
    if resnet:
        return {
            "type": "ResNet",
            "depth": int(resnet[1]),
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "style": "pytorch",
            "strides": (1, 2, 2, 1),
            "dilations": (1, 1, 1, 2),
            "contract_dilation": True,
            "norm_cfg": _NORM,
        }
    timm = {"type": "TIMMBackbone", "model_name": name, "pretrained": False, "features_only": True}
    if isinstance(backbone, VisionTransformer):
        return timm | {
            "out_indices": (len(backbone.blocks) - 1,),
            "img_size": trained.model.size,
            "dynamic_img_size": True,
            "dynamic_img_pad": True,
        }
    return timm | {
        "out_indices": (1, 2, 3, 4),  # 0 is the stem
        "output_stride": OUTPUT_STRIDE,
        "norm_layer": "SyncBN",
    }


def _head_config(trained: Trained) -> dict[str, Any]:
    layers = (
        {"type": "ASPPHead", "dilations": ASPP_DILATIONS}
        if trained.model.head == "aspp"
        else {"type": "FCNHead", "num_convs": 2, "concat_input": True}
    )
    return layers | {
        "in_channels": trained.network.backbone.num_features,
        "in_index": -1,
        "channels": trained.model.head_channels,
        "num_classes": len(trained.network.decode_head.conv_seg.weight),
        "dropout_ratio": DROPOUT,
        "align_corners": False,
        "norm_cfg": _NORM,
    }


def _why_unavailable() -> str | None:
    """Why mmsegmentation cannot be used here; None if it can."""
    try:
        stand_in_for_mmcv_ops()
        with warnings.catch_warnings(action="ignore"):  # from its own imports
            import mmseg.models  # noqa: F401  # fills the registry
    except Exception as error:  # any kind: its imports register, compile and check versions
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _mmseg_version() -> str:
    import mmseg

    return f"mmsegmentation {mmseg.__version__}"


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
    project = trained.network.decode_head.contrast_conv
    embedding = project(theirs.decode_head._forward_feature(features))
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
            f"mmsegmentation could not be asked here ({unavailable}), so a new network of cp2fast "
            f"read the file back: for mmsegmentation itself to do so, {_INSTALL}"
        )
    if not trained.is_finetuned:
        notes.append(
            "decode_head.contrast_conv is the projection of the contrast: mmseg reports it as "
            "unexpected and does without; decode_head.conv_seg is not trained yet."
        )
    if _prefix(trained):
        notes.append("The backbone is timm's, in mmseg's TIMMBackbone: timm must be installed.")
    return notes
