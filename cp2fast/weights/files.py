"""Read weight files without running any code that they name."""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cp2fast.data.decoding.kinds import kind_of
from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.files import cannot_read, is_file, open_plain, path_of, place_of
from cp2fast.run_folder import damage, trained_weights
from cp2fast.weights import inert
from cp2fast.weights.inert import RunsCode, tensors_of
from cp2fast.weights.layouts import METADATA

_warn = logging.getLogger(__name__).warning

_INDEX = ".index.json"
"""Suffix of a list of the files that contain a large model's weights."""

_IN_FOLDERS = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)
"""Weight files in a folder in which Hugging Face's libraries saved a model."""
_PICKLE = b"/data.pkl"
"""The first member of an archive that PyTorch wrote."""
_HEAD = 1 << 16
"""Number of bytes read to detect the kind of a file."""


def find_file(path: Path) -> Path:
    """The file itself, or the best or else newest checkpoint of a run folder; checked for damage.

    For a Hugging Face model folder it is ``model.safetensors``.

    Raises:
        UserError: there is no file, or it is damaged.
    """
    path = path_of(path)
    if place_of(path) == "folder":
        downloaded = (path / name for name in _IN_FOLDERS if is_file(path / name))
        checkpoint = trained_weights(path, print, _warn) or next(downloaded, None)
        if checkpoint is None:
            raise UserError(f"{path} is not a run folder with a checkpoint: name a file in it")
        return checkpoint
    if place_of(path) != "file":
        raise UserError(f"no weights at {path}: name a run folder, a checkpoint or a state dict")
    return path


def read_content(path: Path) -> dict[str, Any]:
    """Read a file's content: tensors, plain values and nested dictionaries of them.

    The kind of file is detected from its content, not its name.

    Raises:
        UserError: damaged, of another format, or written to run code.
    """
    try:
        with open_plain(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise cannot_read(path, error) from error
    if path.name.endswith(_INDEX):
        return _read_parts(path)
    try:
        if head[8:9] == b"{":  # the length of a JSON header, then the header
            return _read_safetensors(path)
        problem = damage(path) if zipfile.is_zipfile(path) else None  # torch.load does not check
        if problem is not None:
            raise UserError(
                f"{path} is damaged ({problem}): take another checkpoint, or copy it again"
            )
        content = _read_torch(path)
    except RunsCode as error:
        raise UserError(
            f"{path} would run code when read ({error}), which no weights need: it was not read; "
            "download it from a source that you trust"
        ) from error
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises almost anything
        if is_out_of_memory(error):
            raise
        reason = "it is damaged, or a pickle that PyTorch did not write"
        if isinstance(error, RuntimeError | OSError | SafetensorError):
            reason = (str(error).splitlines() or [reason])[0]
        raise UserError(_cannot(path, head, reason)) from error
    if isinstance(content, list | tuple):
        return {str(number): one for number, one in enumerate(content)}
    return content if isinstance(content, dict) else {}


def _read_torch(path: Path) -> Any:
    """The content of a file of ``torch.save``, of other libraries' objects only the tensors."""
    # PyTorch warns of pickles of another protocol, and of classes whose source has changed.
    with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
        try:
            return torch.load(file, "cpu", weights_only=True)
        except UnpicklingError:  # it holds more than tensors and plain values
            file.seek(0)
        content = torch.load(file, "cpu", pickle_module=inert, weights_only=False)
    return tensors_of(content)


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors | {METADATA: file.metadata() or {}}


def _read_parts(index: Path) -> dict[str, Any]:
    """The tensors of all files listed in a JSON index, under ``weight_map``."""
    try:
        listed = json.loads(index.read_text("utf-8"))["weight_map"].values()
        parts = sorted({index.parent / Path(name).name for name in listed})
        strange = [
            part for part in parts if part.name.endswith(_INDEX) or place_of(part) == "folder"
        ]
        if strange:
            raise ValueError(f"it lists {strange[0]}")
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is not an index of weights: fetch it again") from error
    content: dict[str, Any] = {}
    for part in parts:
        content |= read_content(find_file(part))
    return content


def _cannot(path: Path, head: bytes, reason: str) -> str:
    """Why a file has no weights to read: it is something else, an archive, or damaged."""
    kind = kind_of(head)
    name_length = int.from_bytes(head[26:28], "little")  # of the first file in a zip archive
    is_torch = head[30 : 30 + name_length].endswith(_PICKLE)
    if kind == "a zip archive" and (is_torch or not zipfile.is_zipfile(path)):
        return f"{path} cannot be read as weights: it is incomplete or damaged; fetch it again"
    if kind.endswith(" archive"):
        return f"{path} cannot be read as weights: it is {kind}; unpack it and name the file inside"
    if kind != "a file of no known kind":
        return f"{path} cannot be read as weights: it is {kind}; fetch or name weights"
    return f"{path} cannot be read as weights: {reason}; fetch it again, or name another"
