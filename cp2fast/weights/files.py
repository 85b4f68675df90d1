"""Files of weights, read without running any code that they carry."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cp2fast.errors import UserError

METADATA = "__metadata__"
"""Where ``read_content`` puts the texts that a .safetensors file holds beside its tensors."""

_WRAPPERS = ("model", "state_dict", "teacher", "student")
"""cp2fast, DeiT and MAE; MoCo, CP2, mmseg and timm; DINO, whose teacher is the better network."""


def find_file(path: Path) -> Path:
    """The file itself, or the newest checkpoint of a run folder.

    Raises:
        UserError: there is none.
    """
    path = path.expanduser()
    if path.is_dir():
        checkpoints = sorted(path.glob("checkpoints/*.pt"))
        if not checkpoints:
            raise UserError(f"{path} is not a run folder with a checkpoint: name a file in it")
        path = checkpoints[-1]
    if not path.is_file():
        raise UserError(
            f"no weights at {path}: name a run folder, a checkpoint or a state dict; what a "
            "training starts from is model.init=FILE"
        )
    return path


def read_content(path: Path) -> dict[str, Any]:
    """What a file holds: a dictionary of tensors, plain values and such dictionaries.

    Raises:
        UserError: damaged, of another format, or not to be read without running its code.
    """
    try:
        if _is_safetensors(path):
            return _read_safetensors(path)
        # Released checkpoints hold the words of the command line that made them.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = "it is damaged, or neither PyTorch's nor safetensors"
        raise UserError(
            _needs_code(path, code[1]) if code else f"{path} cannot be read as weights: {reason}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as weights: {reason}") from error
    return content if isinstance(content, dict) else {}


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, out of the dictionaries around them."""
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            return tensors_of(content[wrapper])
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _is_safetensors(path: Path) -> bool:
    """By its beginning: the length of a header in JSON, and the header."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors | {METADATA: file.metadata() or {}}


def _needs_code(path: Path, code: str) -> str:
    tensors = path.with_name(f"{path.stem}_tensors.pt")
    script = (
        f"import torch; c = torch.load({str(path)!r}, 'cpu', weights_only=False); "
        f"torch.save(c.get('state_dict', c), {str(tensors)!r})"
    )
    return (
        f"{path} would run code when read ({code}), so it was not read: if you trust who made it, "
        f'keep its tensors alone with: python -c "{script}" and name {tensors}'
    )
