"""What is wrong with the words of a command line, in one line that names the word and the fix."""

from __future__ import annotations

import difflib
import re
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
_NEAR = 0.6


def mistake(error: Any, words: Sequence[str]) -> str:
    """A usage error of the command line's library as a message that ends in the help to read.

    The library's kinds of errors are told apart by what they carry: typer exports none of them,
    and moved them between versions.

    Args:
        error: the usage error.
        words: the command line, without the program.
    """
    command = _command(error, words)
    if hasattr(error, "possibilities"):
        text = _unknown_option(error, command)
    elif hasattr(error, "param_type"):
        text = f"{command} needs {_parameter(error.param)}"
    elif getattr(error, "param", None) is not None:
        text = _wrong_value(error)
    elif hasattr(error, "option_name"):
        text = re.sub(r"^Option '(.*?)' ", r"\1 ", str(error))
    else:
        text = _wrong_words(error, command)
    return f"{text.rstrip('.')}; see {f'cp2fast {command}'.strip()} --help"


def _command(error: Any, words: Sequence[str]) -> str:
    """The command that the error is about, without the program; empty for the program itself."""
    names: list[str] = []
    context = error.ctx
    if context is None:  # of an option without its value; options of the program take none
        return next((word for word in words[:1] if not word.startswith("-")), "")
    while context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(names)


def _unknown_option(error: Any, command: str) -> str:
    option = str(error.option_name)
    kind = _SETTINGS.get(command)
    name = option.lstrip("-").replace("-", "_")
    if kind is not None:
        keys = [setting.key for setting in describe(kind)]
        key = next((key for key in keys if name in (key, key.rpartition(".")[2])), None)
        if key is not None:
            return f"{option} is no option but a setting: write {key}=VALUE"
    known = sorted(
        name for one in error.ctx.command.get_params(error.ctx) for name in one.opts if "--" in name
    )
    near = difflib.get_close_matches(option, known, n=1, cutoff=_NEAR)
    hint = f"the nearest is {near[0]}" if near else f"there are {', '.join(known)}"
    return f"no option {option}: {hint}"


def _parameter(parameter: Any) -> str:
    """An option or argument as it is written, and what it is."""
    written = parameter.opts[0] if parameter.param_type_name == "option" else ""
    about = (getattr(parameter, "help", None) or "").rstrip(".")
    if about[1:2].islower():
        about = about[0].lower() + about[1:]
    about = f" ({about})" if about else ""
    return f"{written} {parameter.metavar or ''}".strip() + about


def _wrong_value(error: Any) -> str:
    parameter = error.param
    is_option = parameter.param_type_name == "option"
    name = parameter.opts[0] if is_option else parameter.metavar or parameter.name
    text = re.sub(r"a valid (integer|number).*", r"a \1", str(error))
    text = text.replace("integer", "whole number")
    return f"{name} {text[6:]}" if text.startswith("Input ") else f"{name}: {text}"


def _wrong_words(error: Any, command: str) -> str:
    text = str(error)
    commands = getattr(error.ctx.command, "commands", {}) if error.ctx is not None else {}
    unknown = re.match(r"No such command '(.*?)'", text)
    if unknown:
        near = difflib.get_close_matches(unknown[1], commands, n=1, cutoff=_NEAR)
        hint = f"the nearest is {near[0]}" if near else f"there are {', '.join(commands)}"
        return f"no command '{unknown[1]}': {hint}"
    if text.startswith("Missing command"):
        return f"{command} needs a command: there are {', '.join(commands)}"
    surplus = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", text)
    return f"{command}: too many words: {surplus[1]}" if surplus else text[:1].lower() + text[1:]
