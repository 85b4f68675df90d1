"""``cp2fast export``: write a file, check it with its library, then put it in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.files import path_of, refuse_taken
from cp2fast.run_folder import atomic_write
from cp2fast.weights.export.backbone import export_timm, export_torchvision
from cp2fast.weights.export.exported import SAFETENSORS, TORCH_SUFFIXES, Exported
from cp2fast.weights.export.mmseg import export_mmseg
from cp2fast.weights.export.model_card import card_path, model_card
from cp2fast.weights.export.onnx import export_onnx
from cp2fast.weights.export.safetensors import export_safetensors
from cp2fast.weights.trained import Trained, open_trained


class _Format(NamedTuple):
    prepare: Callable[[Trained, str], Exported]
    suffixes: tuple[str, ...]
    """Allowed suffixes; the first is the default."""


FORMATS = {
    "timm": _Format(export_timm, (SAFETENSORS, *TORCH_SUFFIXES)),
    "torchvision": _Format(export_torchvision, (*TORCH_SUFFIXES, SAFETENSORS)),
    "mmseg": _Format(export_mmseg, TORCH_SUFFIXES),
    "safetensors": _Format(export_safetensors, (SAFETENSORS,)),
    "onnx": _Format(export_onnx, (".onnx",)),
}


def export(
    run: str | Path,
    to: Literal["timm", "torchvision", "mmseg", "safetensors", "onnx"],
    out: str | Path | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write a network's weights for another library, check the file, and add a model card.

    Args:
        run: a run folder, a checkpoint or a ``.safetensors`` file written by this function.
        to: the target library or format; ``safetensors`` is for ``load``.
        out: the file; None is ``export/BACKBONE_stepSTEP_FORMAT.*`` in the run folder.
        say: called with each line about the finished file.

    Returns:
        The file.

    Raises:
        UserError: bad input, the file exists, or it does not read back the same; nothing was
            overwritten or left behind.
    """
    if to not in FORMATS:
        raise UserError(f"{to} is not a format: choose {', '.join(FORMATS)}")
    form = FORMATS[to]
    path = None if out is None else path_of(out)
    if path is not None and path.suffix not in form.suffixes:
        raise UserError(f"{path} must end in {' or '.join(form.suffixes)} for {to}")
    trained = open_trained(run)
    path = path or _default_file(trained, to, form.suffixes[0])
    for taken in (path, card_path(path)):
        refuse_taken(taken)

    exported = form.prepare(trained, path.name)
    difference = _write(trained, exported, path)
    say(
        f"{path} holds {exported.holds}; read back by {exported.library}, its outputs differ from "
        f"the network's by {difference:.1e} of the largest"
    )
    say(f"how to load it: {card_path(path)}")
    for note in exported.notes:
        say(note)
    return path


def _default_file(trained: Trained, to: str, suffix: str) -> Path:
    folder = (trained.run_folder or trained.path.parent) / "export"
    step = f"_step{trained.facts['step']}" if "step" in trained.facts else ""
    library = "" if suffix == f".{to}" else f"_{to}"
    return folder / f"{trained.model.backbone}{step}{library}{suffix}"


def _write(trained: Trained, exported: Exported, out: Path) -> float:
    """Put file and card in place if the check passes; returns the outputs' relative difference."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            file.write(exported.content)
            file.flush()
            difference = _checked(exported, Path(file.name), out)
            card = model_card(trained, exported, out.name, difference).encode()
        try:
            with atomic_write(card_path(out)) as file:
                file.write(card)
        except BaseException:
            out.unlink()
            raise
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {error.strerror or error}; name another --out FILE"
        ) from error
    return difference


def _checked(exported: Exported, written: Path, out: Path) -> float:
    try:
        difference = exported.check(written)
    except RuntimeError as error:  # raised by a strict load_state_dict
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{out} was deleted: {exported.library} cannot load it: {reason}"
        ) from error
    if difference > exported.tolerance:
        raise UserError(
            f"{out} was deleted: read back by {exported.library}, its outputs differ from the "
            f"network's by {difference:.1e} of the largest, where rounding explains "
            f"{exported.tolerance:.0e}; are the losses of the run finite?"
        )
    return difference
