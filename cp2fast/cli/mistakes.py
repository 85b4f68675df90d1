"""One-line messages for command lines that cannot be parsed; each ends with the help to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cp2fast.config import FinetuneSettings, PretrainSettings, Section
from cp2fast.wording import describe

_SETTINGS: dict[str, type[Section]] = {
    "pretrain": PretrainSettings,
    "finetune-voc": FinetuneSettings,
    "bench": PretrainSettings,
    "preview": PretrainSettings,
    "doctor": PretrainSettings,
}


def mistake(error: Any, words: Sequence[str]) -> str:
    """The message for a usage error of typer, also for a setting that was given as an option.

    Args:
        error: the usage error, whose class typer does not export.
        words: the command line, without the program.
    """
    command = _command(error, words)
    option = str(getattr(error, "option_name", ""))
    key = _setting(option.lstrip("-").replace("-", "_"), command)
    if key is not None:
        text = f"{option} is a setting, not an option: write {key}=VALUE"
    else:
        text = " ".join(error.format_message().split()).rstrip(".?")
        if command in _SETTINGS and not getattr(error, "possibilities", True):
            text += "; settings are KEY=VALUE, without dashes"
    return f"{text}; see {f'cp2fast {command}'.strip()} --help"


def _command(error: Any, words: Sequence[str]) -> str:
    """The command that the error is about, without the program; empty for the program itself."""
    if error.ctx is None:  # an option without its value; the program's own options take none
        return next((word for word in words[:1] if not word.startswith("-")), "")
    return str(error.ctx.command_path).partition(" ")[2]


def _setting(name: str, command: str) -> str | None:
    """The setting of the command that has this name, with or without its section."""
    if not name or command not in _SETTINGS:
        return None
    keys = [setting.key for setting in describe(_SETTINGS[command])]
    return next((key for key in keys if name in (key, key.rpartition(".")[2])), None)
