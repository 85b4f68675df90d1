"""The settings and the folder of a run, as requested on the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from cp2fast import recipes
from cp2fast.errors import UserError
from cp2fast.files import is_file
from cp2fast.recipes import Settings
from cp2fast.run_folder import RunFolder

_IN_WORDS = {"pretrain": ("pretraining", "pretrain"), "finetune": ("fine-tuning", "finetune-voc")}


def run_settings(
    kind: type[Settings],
    run: Literal["pretrain", "finetune"],
    recipe: Settings | str | Path | None,
    overrides: Sequence[str] | Mapping[str, object],
    *,
    out: str | Path | None,
    resume: bool,
    default: str,
    prefix: str = "",
) -> tuple[Settings, Path]:
    """The settings of a run and its folder.

    Args:
        kind: class of the settings.
        run: kind of run.
        recipe: see ``recipes.load``; None is ``default``, or when resuming the settings of the run
            in ``out``.
        overrides: see ``recipes.load``.
        out: the run folder; None is a folder below ``runs/`` named after the recipe.
        resume: whether to continue the run in the folder.
        default: default recipe.
        prefix: prefix of the folder's name.

    Raises:
        UserError: as ``recipes.load``, or the folder to resume holds another kind of run.
    """
    named = default if recipe is None else recipe
    name = Path(named).stem if isinstance(named, str | Path) else "run"
    folder = RunFolder(Path(out) if out is not None else Path("runs") / f"{prefix}{name}")
    if resume:
        _refuse_other_kind(folder, run)
        if recipe is None and is_file(folder.config):
            named = folder.config
    return recipes.load(kind, named, overrides), folder.path


def _refuse_other_kind(folder: RunFolder, kind: str) -> None:
    """Refuse to resume pretraining as fine-tuning, and vice versa."""
    found = folder.kind
    if found is None or found == kind:
        return
    what, command = _IN_WORDS[found]
    raise UserError(
        f"{folder.path} holds a {what}: go on with it by cp2fast {command} --resume --out "
        f"{folder.path}"
    )
