"""Weights in: from cp2fast's runs, the original's checkpoints, MoCo, timm and torchvision.

These differ in what they put before the names of a network's tensors. ``load_weights`` takes the
prefix under which most names are the network's own.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from cp2fast.errors import UserError
from cp2fast.model.segmenter import Segmenter

_PREFIXES = ("", "module.", "encoder_q.", "module.encoder_q.")
"""Plain; DataParallel; cp2fast and CP2's query encoder; MoCo and the original."""

_PARTS = ("", "backbone.", "decode_head.")
"""A whole network, a bare backbone or a bare head, or both in one flat file."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each name; ``str`` of it is one line.

    Attributes:
        matched: the network's tensors that were loaded.
        missing: the network's tensors that the file does not hold; left as they were.
        unexpected: the file's tensors, under the prefix taken, for which the network has no place.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        return (
            f"matched {len(self.matched)} tensors, missing {len(self.missing)}"
            f"{_examples(self.missing)}, unexpected {len(self.unexpected)}"
            f"{_examples(self.unexpected)}"
        )


def load_weights(network: Segmenter, path: Path, skip: Sequence[str] = ()) -> LoadReport:
    """Load what fits from ``path`` into ``network``, in place.

    A position embedding for another size of images is resampled.

    Args:
        network: on any device.
        path: a cp2fast run folder (its newest checkpoint), a checkpoint or state dict
            (.pt, .pth), or .safetensors.
        skip: beginnings of names of the network that are to stay as they are, such as
            ``"decode_head.conv_seg."`` for other classes.

    Raises:
        UserError: nothing fits, or the file holds another architecture; ``network`` is unchanged.
    """
    wanted = network.state_dict()
    source = _read(path)
    matched, unexpected = _match(source, wanted, skip)
    if not matched:
        raise UserError(
            f"{path}: none of its {len(source)} tensors has a place in the network: it holds "
            f"{_some(list(source))}, the network wants {_some(list(wanted))}; name a file of "
            "the same model.backbone"
        )
    matched = {name: _resampled(network, name, tensor) for name, tensor in matched.items()}
    differences = _differences(matched, unexpected, wanted)
    if differences:
        raise UserError(
            f"{path} holds another architecture, set model.backbone and model.head to its own: "
            f"{len(differences)} tensors differ: {_some(differences)}"
        )
    network.load_state_dict(matched, strict=False)
    return LoadReport(
        matched=list(matched),
        missing=[name for name in wanted if name not in matched],
        unexpected=unexpected,
    )


def _match(
    source: Mapping[str, Tensor], wanted: Mapping[str, Tensor], skip: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the network's names, and the file's names that are none."""

    def under(prefix: str) -> tuple[dict[str, Tensor], list[str]]:
        matched, unexpected = {}, []
        for key in source:
            if key.startswith(prefix):
                names = (part + key.removeprefix(prefix) for part in _PARTS)
                name = next((name for name in names if name in wanted), None)
                if name is None:
                    unexpected.append(key.removeprefix(prefix))
                elif not name.startswith(tuple(skip)):
                    matched[name] = source[key]
        return matched, unexpected

    return max((under(prefix) for prefix in _PREFIXES), key=lambda found: len(found[0]))


def _differences(
    matched: Mapping[str, Tensor], unexpected: Sequence[str], wanted: Mapping[str, Tensor]
) -> list[str]:
    """What shows that the file is of another architecture.

    A file may lack the head, or bring a classifier. But tensors of another shape, part of a
    backbone, or more blocks than it has, are another network's.
    """
    shapes = [
        f"{name} {list(tensor.shape)} in the file, {list(wanted[name].shape)} in the network"
        for name, tensor in matched.items()
        if tensor.shape != wanted[name].shape
    ]
    backbone = [name for name in wanted if name.startswith("backbone.")]
    absent = [
        f"{name} not in the file"
        for name in backbone
        if name not in matched and not name.endswith("num_batches_tracked")
    ]
    if len(absent) == len(backbone) or not any(name in matched for name in backbone):
        absent = []
    modules = {name.split(".")[1] for name in backbone}
    surplus = [
        f"{name} not in the network"
        for name in unexpected
        if name.removeprefix("backbone.").split(".")[0] in modules
    ]
    return shapes + absent + surplus


def _resampled(network: Segmenter, name: str, tensor: Tensor) -> Tensor:
    """A transformer's position embedding at the network's grid; anything else as it is."""
    if name != "backbone.pos_embed" or tensor.shape[-1] != network.backbone.pos_embed.shape[-1]:
        return tensor
    backbone = network.backbone
    grid = backbone.patch_embed.grid_size
    prefix = backbone.pos_embed.shape[1] - grid[0] * grid[1]
    return resample_abs_pos_embed(  # type: ignore[no-any-return]
        tensor, list(grid), num_prefix_tokens=prefix
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file or a run folder, by name."""
    if path.is_dir():
        checkpoints = sorted(path.glob("checkpoints/*.pt"))
        if not checkpoints:
            raise UserError(f"{path} is not a run folder with a checkpoint: name a file in it")
        path = checkpoints[-1]
    if not path.is_file():
        raise UserError(f"no weights at {path}: name a run folder, a checkpoint or a state dict")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as weights: {reason}") from error
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = dict(content) if isinstance(content, dict) else {}
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) or "nothing"
    return shown + (", ..." if len(names) > 3 else "")


def _examples(names: Sequence[str]) -> str:
    return f" ({_some(names)})" if names else ""
