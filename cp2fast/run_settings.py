"""The settings and the folder of a run, as requested on the command line or from Python."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Literal

from cp2fast import recipes
from cp2fast.config import FinetuneSettings, PretrainSettings, check_root
from cp2fast.errors import UserError
from cp2fast.files import is_file, path_of
from cp2fast.recipes import Overrides, Settings
from cp2fast.run_folder import RunFolder

_IN_WORDS = {"pretrain": ("pretraining", "pretrain"), "finetune": ("fine-tuning", "finetune-voc")}


def pretrain_settings(
    recipe: PretrainSettings | str | Path | None,
    overrides: Overrides,
    *,
    out: str | Path | None,
    resume: bool,
) -> tuple[PretrainSettings, Path]:
    """The settings of a pretraining and its folder; see ``api.pretrain`` for the arguments.

    Raises:
        UserError: as ``recipes.load``, there is nothing to train on, or the folder to resume holds
            another kind of run.
    """
    settings, folder = _run_settings(
        PretrainSettings, "pretrain", recipe, overrides, out, resume, "demo", ""
    )
    check_root(settings.data)
    return settings, folder


def finetune_settings(
    recipe: FinetuneSettings | str | Path | None,
    overrides: Overrides,
    *,
    out: str | Path | None,
    resume: bool = False,
    prefix: str = "finetune-",
) -> tuple[FinetuneSettings, Path]:
    """The settings of a fine-tuning and its folder, whose name begins with ``prefix``.

    The arguments and errors are those of ``pretrain_settings``. With ``data.root`` among the
    overrides, the default recipe is ``voc_r50``.
    """
    overrides = recipes.listed(overrides)
    keys = [str(word).partition("=")[0] for word in overrides]
    default = "finetune/voc_r50" if "data.root" in keys else "finetune/demo"
    settings, folder = _run_settings(
        FinetuneSettings, "finetune", recipe, overrides, out, resume, default, prefix
    )
    check_root(settings.data)
    return settings, folder


def _run_settings(
    kind: type[Settings],
    run: Literal["pretrain", "finetune"],
    recipe: Settings | str | Path | None,
    overrides: Overrides,
    out: str | Path | None,
    resume: bool,
    default: str,
    prefix: str,
) -> tuple[Settings, Path]:
    named = default if recipe is None else recipe
    name = Path(named).stem if isinstance(named, str | Path) else "run"
    folder = RunFolder(path_of(out) if out is not None else Path("runs") / f"{prefix}{name}")
    if resume:
        found = folder.kind
        if found not in (None, run):
            what, command = _IN_WORDS[found]
            raise UserError(
                f"{folder.path} holds a {what}: continue it with cp2fast {command} --resume --out "
                f"{quote(str(folder.path))}"
            )
        if recipe is None and is_file(folder.config):
            named = folder.config
    return recipes.load(kind, named, overrides), folder.path
