"""Load weights from cp2fast's runs, the original CP2, and other libraries and releases.

They differ in how they wrap a network's tensors (``layouts.py``). ``load_weights`` uses the place
in the file that has the most names of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.files import path_of, place_of
from cp2fast.model.segmenter import Segmenter
from cp2fast.weights.files import find_file, read_content
from cp2fast.weights.layouts import Match, best_match, flattened
from cp2fast.weights.timm import download, is_timm_name

_PROJECTIONS = ("decode_head.conv_seg.", "decode_head.contrast_conv.")
"""Projections that every head has; a file may lack one of them."""

_HEAD_MODULES = {
    "image_pool",
    "aspp_modules",
    "bottleneck",
    "convs",
    "conv_cat",
    "fusion_conv",
    "bn",
}
_SHARED_NAME = "decode_head.bn."
"""A linear head's norm has a name that many networks have; alone it is no match."""
_WINDOW_TABLE = "relative_position_bias_table"
_MOCO_V3_HEADS, _MOCO_V3_WIDTHS = 12, (192, 384)
"""Attention heads of MoCo v3's ViT-S and solo-learn's ViT-Ti; other ViT-S have 6, ViT-Ti 3."""


@dataclass(frozen=True)
class LoadReport:
    """What happened to each tensor; ``str`` gives one line.

    Attributes:
        matched: the network's tensors that were loaded.
        missing: the network's tensors that were left unchanged.
        unexpected: the file's tensors, under the chosen prefix, that the network does not have.
        notes: other information for the user, one clause each.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = (
            f"matched {len(self.matched)} tensors, missing {len(self.missing)}"
            f"{_examples(self.missing)}, unexpected {len(self.unexpected)}"
            f"{_examples(self.unexpected)}"
        )
        return "; ".join([counts, *self.notes])


def load_weights(network: Segmenter, source: str | Path, skip: Sequence[str] = ()) -> LoadReport:
    """Load all fitting weights from ``source`` into ``network``, in place.

    A position embedding for another image size is resampled. The classifier is left unchanged if
    the number of classes differs.

    Args:
        network: the network, on any device.
        source: a cp2fast run folder (its best checkpoint, or else its newest), a checkpoint or
            state dict (.pt, .pth), .safetensors, or a timm model's name.
        skip: prefixes of the network's names that are not loaded.

    Raises:
        UserError: nothing fits, or the file holds another architecture; ``network`` is unchanged.
    """
    file, wanted = find_weights(source), network.state_dict()
    content = download(str(source)) if file is None else read_content(file)
    with _odd_tensors_refused(source):
        match = best_match(content, wanted)
        notes = [f"read under {match.prefix}"] if match.prefix else []
        if match.is_average and match.inside:
            notes.append(f"of {'.'.join(match.inside)}")
        tensors = _other_classes_left_out(match.tensors, wanted, notes)
        tensors = {name: t for name, t in tensors.items() if not name.startswith(tuple(skip))}
        if all(name.startswith(_SHARED_NAME) for name in tensors):
            found = list(flattened(content))
            raise UserError(
                f"{source}: matched 0 of {len(found)} keys: it holds {_some(found)}, the "
                f"network wants {_some(list(wanted))}; name a file of the same model.backbone"
            )
        _check_numbers(tensors, wanted, source)
        tensors = _position_embedding_resampled(network, tensors, notes)
        tensors = _windows_resampled(_reshaped(tensors, wanted), wanted, notes)
        differences = _differences(
            tensors,
            match.unexpected,
            {name: t for name, t in wanted.items() if not name.startswith(tuple(skip))},
        )
        if differences:
            raise UserError(
                f"{source} holds another architecture, set model.backbone and model.head to its "
                f"own: {len(differences)} tensors differ: {_some(differences)}"
            )
        _check_attention_heads(network, match, source)
    network.load_state_dict(tensors, strict=False)
    if not any(name.startswith("decode_head.") for name in tensors):
        notes.append("the backbone alone: the head keeps its initial weights")
    return LoadReport(
        matched=list(tensors),
        missing=[name for name in wanted if name not in tensors],
        unexpected=match.unexpected,
        notes=notes,
    )


@contextmanager
def _odd_tensors_refused(source: str | Path) -> Iterator[None]:
    """Refuse tensors of unusual shapes and kinds, on which torch raises almost anything."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).split("\n")[0][:120]
        raise UserError(f"{source} holds unusable tensors ({reason}): name another file") from error


def find_weights(source: str | Path) -> Path | None:
    """The file of weights, which is not read; None for a timm model.

    Raises:
        UserError: ``source`` is neither a file, a run folder with a checkpoint nor a timm model.
    """
    path = path_of(source)
    if place_of(path) != "nothing":
        return find_file(path)
    if is_timm_name(str(source)):
        return None
    raise UserError(
        f"no weights at {source}: name a run folder, a checkpoint or a state dict, in a training "
        "with model.init=FILE"
    )


def _other_classes_left_out(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    weight = "decode_head.conv_seg.weight"
    if weight not in tensors or len(tensors[weight]) == len(wanted[weight]):
        return dict(tensors)
    notes.append(
        f"conv_seg keeps its initial weights: {len(tensors[weight])} classes in the file, "
        f"{len(wanted[weight])} in the network"
    )
    return {name: t for name, t in tensors.items() if not name.startswith("decode_head.conv_seg.")}


def _position_embedding_resampled(
    network: Segmenter, tensors: dict[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Resample a transformer's position embedding to the network's grid, bicubic as in timm.

    The class and register tokens before the grid have no position in it and are unchanged.
    """
    theirs, backbone = tensors.get("backbone.pos_embed"), network.backbone
    if theirs is None or not isinstance(backbone, VisionTransformer | Eva):
        return tensors
    ours, (rows, columns) = backbone.pos_embed, backbone.patch_embed.grid_size
    before = ours.shape[1] - rows * columns
    side = math.isqrt(max(0, theirs.shape[1] - before))
    if side * side != theirs.shape[1] - before or (side, side) == (rows, columns):
        return tensors
    notes.append(f"position embedding resized from {side} x {side} to {rows} x {columns}")
    resized = resample_abs_pos_embed(theirs, [rows, columns], num_prefix_tokens=before)
    return tensors | {"backbone.pos_embed": resized}


def _windows_resampled(
    tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Resample Swin's relative position bias tables to another window size."""
    resampled = {}
    for name, tensor in tensors.items():
        rows, heads = wanted[name].shape if name.endswith(_WINDOW_TABLE) else (0, 0)
        if rows and tensor.shape != wanted[name].shape and tensor.shape[1:] == (heads,):
            side = (math.isqrt(rows) + 1) // 2
            resampled[name] = resize_rel_pos_bias_table(tensor, (side, side), (rows, heads))
    if resampled:
        notes.append(f"{len(resampled)} tables of positions in a window resized")
    return tensors | resampled


def _reshaped(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add or remove dimensions of size 1, as between a linear layer and a 1x1 convolution."""
    return {
        name: tensor.reshape(wanted[name].shape)
        if tensor.squeeze().shape == wanted[name].squeeze().shape
        else tensor
        for name, tensor in tensors.items()
    }


def _differences(
    tensors: Mapping[str, Tensor], unexpected: Sequence[str], wanted: Mapping[str, Tensor]
) -> list[str]:
    """Differences that show that the file has another architecture.

    A file may lack the head, the backbone or one of the head's projections, or have an additional
    classifier. But tensors of another shape, an incomplete backbone or head, or additional layers
    belong to another network.
    """
    shapes = [
        f"{name} {list(tensor.shape)} in the file, {list(wanted[name].shape)} in the network"
        for name, tensor in tensors.items()
        if tensor.shape != wanted[name].shape
    ]
    backbone = [name for name in wanted if name.startswith("backbone.")]
    head = [
        name
        for name in wanted
        if name.startswith("decode_head.") and not name.startswith(_PROJECTIONS)
    ]
    absent = [
        f"{name} not in the file"
        for part in (backbone, head)
        if any(name in tensors for name in part)
        for name in part
        if name not in tensors and not name.endswith("num_batches_tracked")
    ]
    modules = {name.split(".")[1] for name in backbone} | _HEAD_MODULES
    surplus = [
        f"{name} not in the network"
        for name in unexpected
        if name.removeprefix("backbone.").removeprefix("decode_head.").split(".")[0] in modules
    ]
    return shapes + absent + surplus


def _check_numbers(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str | Path
) -> None:
    """Refuse quantised weights, NaN and infinity, which would otherwise go unnoticed for long."""
    for name, tensor in tensors.items():
        if not wanted[name].is_floating_point():
            continue
        if not tensor.is_floating_point() or tensor.dtype.itemsize == 1:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(
                f"{source} holds {name} as {kind}: these are quantised weights; name the file that "
                "they were made of"
            )
        if not torch.isfinite(tensor.to(wanted[name].dtype)).all():
            raise UserError(
                f"{source} holds NaN or infinity in {name}: the training that made it had failed; "
                "name an earlier checkpoint"
            )


def _check_attention_heads(network: Segmenter, match: Match, source: str | Path) -> None:
    """Refuse MoCo v3's small transformers, as the shapes do not show that they have 12 heads."""
    backbone = network.backbone
    if not isinstance(backbone, VisionTransformer) or backbone.embed_dim not in _MOCO_V3_WIDTHS:
        return
    is_named = match.prefix.endswith("base_encoder.") and backbone.embed_dim == 384  # its own file
    ours = backbone.blocks[0].attn.num_heads
    if ours != _MOCO_V3_HEADS and (is_named or _has_moco_v3_positions(match.tensors)):
        raise UserError(
            f"{source} is a transformer of MoCo v3, whose attention has {_MOCO_V3_HEADS} heads "
            f"where timm's has {ours}: use its ViT-B or ResNet-50, or DINO's ViT-S"
        )


def _has_moco_v3_positions(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the positions are those that MoCo v3 fixes: sine and cosine of row, then column.

    MAE's, which are fixed too, begin with the column.
    """
    positions = tensors.get("backbone.pos_embed")
    if positions is None or positions.ndim != 3 or positions.shape[1] < 3:
        return False
    class_token, _, second = positions[0, :3].float()
    sine_of_row, cosine_of_row, sine_of_column, _ = second.chunk(4)
    column = torch.arange(len(sine_of_column)) / len(sine_of_column)
    return (
        not class_token.any()
        and not sine_of_row.any()
        and bool((cosine_of_row == 1).all())
        and torch.allclose(sine_of_column, torch.sin(10_000.0**-column), atol=1e-5)
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) or "nothing"
    return shown + (", ..." if len(names) > 3 else "")


def _examples(names: Sequence[str]) -> str:
    return f" ({_some(names)})" if names else ""
